// System V shared memory: attached for writing and for reading only, twice, in parts with other protections; inherited by a child
// and attached by it once more elsewhere; removed but attached; attached by nobody; sparse. Ids, keys, sizes, modes and attachment
// counts stay. While the program merely goes on, nothing of what the kernel notes about a segment changes.
#include "sysv.h"

#include <setjmp.h>
#include <sys/shm.h>

enum { kShared, kRemoved, kDetached, kReadOnly, kSegments };
static const size_t kSizes[kSegments] = {5 * PAGE + 100, 2 * PAGE, 3 * PAGE, 256 * MIB};

struct Mail {
  volatile uint64_t asked, answered, sum;
};

static int ids[kSegments];
static key_t keys[kSegments];
static struct shmid_ds facts[kSegments];
static char *shared, *again, *read_only;
static struct Mail* mail;  // in kRemoved
static uint64_t turn = 1;
static sigjmp_buf back;
static pid_t child;

static void on_fault(int signal) { siglongjmp(back, signal); }

static int can_write(volatile char* address) {
  if (sigsetjmp(back, 1) != 0) return 0;
  *address = *address;
  return 1;
}

static struct shmid_ds look(int which) {
  struct shmid_ds now;
  CHECK(shmctl(ids[which], IPC_STAT, &now) == 0);
  return now;
}

static void make(int which, int has_key) {
  keys[which] = has_key ? key_of(which) : IPC_PRIVATE;
  ids[which] = note_object("-m", shmget(keys[which], kSizes[which], IPC_CREAT | IPC_EXCL | 0600));
}

static void* attach(int which, void* at, int flags) {
  void* memory = shmat(ids[which], at, flags);
  CHECK(memory != (void*)-1);
  return memory;
}

// The child has inherited all attachments, and has one of its own.
static void serve(void) {
  end_with_parent();
  const char* own = attach(kShared, NULL, SHM_RDONLY);
  mail->answered = 1;
  for (uint64_t seen = 1;;) {
    while (mail->asked == seen) victim_sleep_ms(2);
    seen = mail->asked;
    if (seen == 0) {
      CHECK(shmdt(own) == 0 && !can_write((char*)read_only));
      _exit(7);
    }
    mail->sum = own[100] == shared[100] ? (uint64_t)shared[100] + seen : 0;
    shared[4 * PAGE + 50] = (char)seen;
    mail->answered = seen;
  }
}

static void ask(uint64_t number) {
  mail->asked = number;
  while (number != 0 && mail->answered != number) victim_sleep_ms(2);
}

static void check_facts(int which) {
  const struct shmid_ds now = look(which), then = facts[which];
  CHECK(now.shm_perm.__key == then.shm_perm.__key && now.shm_perm.mode == then.shm_perm.mode);
  CHECK(now.shm_perm.uid == then.shm_perm.uid && now.shm_perm.gid == then.shm_perm.gid);
  CHECK(now.shm_segsz == then.shm_segsz && now.shm_nattch == then.shm_nattch);
  if (keys[which] != IPC_PRIVATE && which != kRemoved) CHECK(shmget(keys[which], 0, 0) == ids[which]);
  if (is_restarted() || which == kDetached) return;
  CHECK(now.shm_atime == then.shm_atime && now.shm_dtime == then.shm_dtime && now.shm_ctime == then.shm_ctime);
  CHECK(now.shm_lpid == then.shm_lpid && now.shm_cpid == then.shm_cpid);
}

static void check(void) {
  for (int i = 0; i < kSegments; ++i) check_facts(i);
  CHECK(pattern_holds(shared, PAGE, turn) && pattern_holds(again, PAGE, turn));
  CHECK(pattern_holds(shared + 2 * PAGE, PAGE, 33) && !can_write(shared + 2 * PAGE) && can_write(shared + 3 * PAGE));
  CHECK(!can_write(again) && mprotect(again, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
  CHECK(read_only[0] == 1 && read_only[128 * MIB] == 2 && is_zero(read_only + 64 * MIB, PAGE));
  ++turn;
  pattern_fill(shared, PAGE, turn);
  ask(turn);
  CHECK(mail->sum == (uint64_t)shared[100] + turn && shared[4 * PAGE + 50] == (char)turn);
}

static void prepare(void) {
  make(kShared, 1);
  make(kRemoved, 1);
  make(kDetached, 1);
  make(kReadOnly, 0);
  shared = attach(kShared, NULL, 0);
  again = attach(kShared, NULL, SHM_RDONLY);
  pattern_fill(shared, PAGE, turn);
  pattern_fill(shared + 2 * PAGE, PAGE, 33);
  CHECK(mprotect(shared + 2 * PAGE, PAGE, PROT_READ) == 0);
  mail = attach(kRemoved, NULL, 0);
  mail->asked = 1;
  char* memory = attach(kDetached, NULL, 0);
  pattern_fill(memory, 3 * PAGE, 44);
  CHECK(shmdt(memory) == 0);
  memory = attach(kReadOnly, NULL, 0);
  memory[0] = 1;
  memory[128 * MIB] = 2;
  CHECK(shmdt(memory) == 0);
  struct shmid_ds mode = look(kReadOnly);
  mode.shm_perm.mode = 0440;
  CHECK(shmctl(ids[kReadOnly], IPC_SET, &mode) == 0);
  read_only = attach(kReadOnly, NULL, SHM_RDONLY);
}

int main(void) {
  signal(SIGSEGV, on_fault);
  prepare();
  child = fork();
  CHECK(child >= 0);
  if (child == 0) serve();
  while (mail->answered != 1) victim_sleep_ms(2);
  CHECK(shmctl(ids[kRemoved], IPC_RMID, NULL) == 0);
  for (int i = 0; i < kSegments; ++i) facts[i] = look(i);
  victim_wait(check);
  if (victim_broken()) shared[8] ^= 1;
  check();
  char* memory = attach(kDetached, NULL, 0);
  CHECK(pattern_holds(memory, 3 * PAGE, 44) && shmdt(memory) == 0);
  ask(0);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  // Each attachment goes as a whole.
  CHECK(shmdt(shared) == 0 && shmdt(again) == 0 && look(kShared).shm_nattch == 0);
  CHECK(shmdt(mail) == 0 && shmctl(ids[kRemoved], IPC_STAT, &facts[0]) == -1 && errno == EINVAL);
  for (int i = 0; i < kSegments; ++i) CHECK(i == kRemoved || shmctl(ids[i], IPC_RMID, NULL) == 0);
  victim_pass();
}
