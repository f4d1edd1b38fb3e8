// System V semaphores: values, key, id, mode; a thread that waits for one; what is undone when a process ends (SEM_UNDO), up and
// down, in the program and in a child of it.
#include "sysv.h"

#include <sched.h>
#include <sys/sem.h>

enum { kCount = 6, kDone = 5 };

static int set, other;
static struct semid_ds facts;
static unsigned short values[kCount] = {5, 0, 32767, 100, 1, 0};
static pid_t child;
static volatile int has_waited;
static pid_t waiting_tid;

static int value_of(int number) { return semctl(set, number, GETVAL); }

static void change(int id, int number, int by, int flags) {
  struct sembuf operation = {(unsigned short)number, (short)by, (short)flags};
  CHECK(semop(id, &operation, 1) == 0);
}

static void* wait_long(void* unused) {
  waiting_tid = gettid();
  change(set, 1, -2, 0);
  has_waited = 1;
  return unused;
}

static void check_never_used(int id) {
  struct semid_ds now;
  CHECK(semctl(id, 0, IPC_STAT, &now) == 0);
  CHECK(now.sem_otime == 0 || victim_exists("restarted-plainly"));
}

static void check(void) {
  struct semid_ds now;
  unsigned short have[kCount];
  CHECK(semctl(set, 0, IPC_STAT, &now) == 0 && semctl(set, 0, GETALL, have) == 0);
  CHECK(now.sem_nsems == kCount && now.sem_perm.__key == facts.sem_perm.__key && now.sem_perm.mode == facts.sem_perm.mode);
  CHECK(is_restarted() || (now.sem_otime == facts.sem_otime && now.sem_ctime == facts.sem_ctime));
  CHECK(now.sem_otime != 0);
  check_never_used(other);
  for (int i = 0; i < kCount; ++i) CHECK(have[i] == values[i]);
  CHECK(semget(key_of(0), kCount, 0) == set && semctl(other, 0, GETVAL) == 7 && !has_waited);
}

// A child that takes and gives with undo, and waits for its end in between.
static void be_child(void) {
  end_with_parent();
  change(set, 0, -2, SEM_UNDO);
  change(set, 3, 30, SEM_UNDO);
  change(set, kDone, 1, 0);
  change(set, 4, -1, 0);
  _exit(9);
}

int main(void) {
  set = note_object("-s", semget(key_of(0), kCount, IPC_CREAT | IPC_EXCL | 0640));
  other = note_object("-s", semget(IPC_PRIVATE, 1, 0600));
  CHECK(semctl(other, 0, SETVAL, 7) == 0);
  CHECK(semctl(set, 0, SETALL, values) == 0);
  change(set, 4, -1, 0);
  values[4] = 0;
  child = fork();
  CHECK(child >= 0);
  if (child == 0) be_child();
  change(set, kDone, -1, 0);
  values[0] -= 2;
  values[3] += 30;
  change(set, 2, -32767, SEM_UNDO);
  change(set, 3, 7, SEM_UNDO);
  change(set, 0, -1, SEM_UNDO);
  values[2] = 0;
  values[3] += 7;
  values[0] -= 1;
  pthread_t waiting = start_thread(wait_long, NULL);
  while (semctl(set, 1, GETNCNT) != 1) victim_sleep_ms(1);
  CHECK(semctl(set, 0, IPC_STAT, &facts) == 0);
  victim_wait(check);
  check();
  // The thread waits on, and gets what it waits for.
  while (semctl(set, 1, GETNCNT) != 1) victim_sleep_ms(1);
  change(set, 1, 2, 0);
  join_thread(waiting);
  // The child ends: its own changes are undone, ours are not.
  int status = 0;
  change(set, 4, 1, 0);
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
  check_never_used(other);
  CHECK(value_of(0) == 4 && value_of(3) == 107 && value_of(2) == 0);
  if (victim_broken()) change(set, 3, 1, 0);
  // Ours are when nobody shares them any more: who was waited for by pthread_join(3) may not be through with its end.
  while (tgkill(getpid(), waiting_tid, 0) == 0) victim_sleep_ms(1);
  CHECK(unshare(CLONE_SYSVSEM) == 0 && value_of(2) == 32767);
  CHECK(value_of(0) == 5 && value_of(3) == 100);
  CHECK(semctl(set, 0, IPC_RMID) == 0 && semctl(other, 0, IPC_RMID) == 0);
  victim_pass();
}
