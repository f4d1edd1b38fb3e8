// Memory files that a parent and its child share, with every kind of seals: mapped by both, open in both or in one only.
#include "victim.h"

#include <linux/memfd.h>
#include <sys/wait.h>

enum { kKinds = 5, kWriteSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW };
static const int kSeals[kKinds] = {F_SEAL_SEAL, 0, F_SEAL_FUTURE_WRITE, kWriteSeals | F_SEAL_SEAL, F_SEAL_SHRINK};
static int files[kKinds];
static char* views[kKinds];
static int order[2], answer[2];
static pid_t child;
static char turn;

static int can_change(int kind) { return (kSeals[kind] & F_SEAL_WRITE) == 0; }

static void check_file(int kind) {
  int seals = fcntl(files[kind], F_GET_SEALS);
  if (seals != kSeals[kind]) victim_fail("file %d has the seals %d instead of %d", kind, seals, kSeals[kind]);
  char byte = 1;
  CHECK(pread(files[kind], &byte, 1, 0) == 1 && byte == (can_change(kind) ? turn : 0));
}

static void check_self(void) {
  for (int i = 0; i < kKinds; ++i) {
    CHECK(views[i][0] == (can_change(i) ? turn : 0) && views[i][1] == 'a' + i);
    if (files[i] >= 0) check_file(i);
  }
  if (files[3] >= 0) CHECK(pwrite(files[3], "x", 1, 0) == -1 && errno == EPERM);
  CHECK(mprotect(views[3], PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
}

static void ask_child(void) {
  char byte = turn;
  CHECK(write(order[1], &byte, 1) == 1);
  if (read(answer[0], &byte, 1) != 1) victim_fail("the child does not answer");
}

static void check(void) {
  check_self();
  ask_child();
  ++turn;
  for (int i = 0; i < kKinds; ++i) {
    if (can_change(i)) views[i][0] = turn;
  }
  ask_child();
}

static void serve(void) {
  close(files[4]);
  files[4] = -1;
  close(order[1]);
  while (read(order[0], &turn, 1) == 1) {
    check_self();
    if (write(answer[1], &turn, 1) != 1) _exit(98);
  }
  _exit(0);
}

// Before Linux 6.7 a sealed file can't be mapped shared from a descriptor that is open for writing.
static char* map_for_reading(int file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  int reader = open(path, O_RDONLY);
  char* view = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0);
  CHECK(reader >= 0 && view != MAP_FAILED && close(reader) == 0);
  return view;
}

int main(void) {
  CHECK(pipe(order) == 0 && pipe(answer) == 0);
  for (int i = 0; i < kKinds; ++i) {
    char text[2] = {0, (char)('a' + i)};
    files[i] = memfd_create("shared", i == 0 ? 0 : MFD_ALLOW_SEALING);
    CHECK(files[i] >= 0 && ftruncate(files[i], PAGE) == 0 && write(files[i], text, 2) == 2);
    views[i] = mmap(NULL, PAGE, can_change(i) ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, files[i], 0);
    CHECK(views[i] != MAP_FAILED);
    if (!can_change(i)) {  // a view that could be made writable would be in the way of the seal
      CHECK(munmap(views[i], PAGE) == 0 && fcntl(files[i], F_ADD_SEALS, kSeals[i]) == 0);
      views[i] = map_for_reading(files[i]);
    } else if (i > 0 && kSeals[i] != 0) {
      CHECK(fcntl(files[i], F_ADD_SEALS, kSeals[i]) == 0);
    }
  }
  child = fork();
  CHECK(child >= 0);
  if (child == 0) serve();
  close(answer[1]);
  check();
  victim_wait(check);
  if (victim_broken()) views[1][0] ^= 1;
  check();
  close(order[1]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  victim_pass();
}
