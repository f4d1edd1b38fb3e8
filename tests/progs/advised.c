// What the program has asked for areas: MADV_DONTFORK, WIPEONFORK, MERGEABLE, RANDOM, DONTDUMP; droppable, growing, sealed memory.
#include "victim.h"

#include <sys/wait.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif

enum { kSize = 16 * 4096 };
static char *no_fork, *no_fork_quiet, *wiped, *mergeable, *random_access, *droppable, *growing, *sealed, *no_fork_file, *sparse;
static const size_t kSparse = 1UL << 36;
static int has_mergeable, has_seal;

static int has_flag(const char* address, const char* flag) {
  static char smaps[4 << 20];
  CHECK(read_file("/proc/self/smaps", smaps, sizeof smaps) > 0);
  int inside = 0;
  for (char* line = strtok(smaps, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = (unsigned long)address >= start && (unsigned long)address < end;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) return strstr(line, flag) != NULL;
  }
  return 0;
}

// In a child: 1 when the page reads as zeros, 2 when it is not there, else 0.
static int seen_by_child(const char* address) {
  pid_t child = fork();
  if (child == 0) {
    int fds[2];
    if (pipe(fds) != 0) _exit(9);
    if (write(fds[1], address, 1) != 1) _exit(2);
    _exit(is_zero(address, PAGE) ? 1 : 0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void check(void) {
  CHECK(pattern_holds(no_fork, kSize, 1) && has_flag(no_fork, " dc"));
  CHECK(seen_by_child(no_fork) == 2);
  CHECK(has_flag(no_fork_quiet, " dc"));
  CHECK(pattern_holds(wiped, kSize / 2, 2) && is_zero(wiped + kSize / 2, kSize / 2) && has_flag(wiped, " wf"));
  CHECK(seen_by_child(wiped) == 1);
  if (has_mergeable) CHECK(has_flag(mergeable, " mg"));
  CHECK(pattern_holds(mergeable, kSize, 3));
  CHECK(has_flag(random_access, " rr") && has_flag(random_access + PAGE * 4, " sr"));
  if (droppable != NULL) CHECK(has_flag(droppable, " dp"));
  CHECK(has_flag(growing, " gd") && pattern_holds(growing, PAGE, 5));
  CHECK(pattern_holds(no_fork_file, PAGE, 60) && pattern_holds(no_fork_file + PAGE, PAGE, 61) && has_flag(no_fork_file, " dc"));
  if (has_seal) CHECK(mprotect(sealed, PAGE, PROT_READ) == -1 && errno == EPERM && has_flag(sealed, " sl"));
  CHECK(sparse[kSparse / 2] == 7 && has_flag(sparse, " dc"));
}

static char* map_file(void) {
  static char bytes[2 * PAGE];
  int fd = open(victim_path("file"), O_RDWR | O_CREAT | O_TRUNC, 0600);
  pattern_fill(bytes, sizeof bytes, 60);
  CHECK(write(fd, bytes, PAGE) == PAGE && write(fd, bytes, PAGE) == PAGE);
  char* memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(memory != MAP_FAILED);
  close(fd);
  pattern_fill(memory + PAGE, PAGE, 61);
  return memory;
}

int main(void) {
  no_fork = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(no_fork, kSize, 1);
  no_fork_quiet = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(no_fork_quiet, kSize, 10);
  CHECK(mprotect(no_fork_quiet, kSize, PROT_NONE) == 0);
  wiped = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(wiped, kSize / 2, 2);
  mergeable = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(mergeable, kSize, 3);
  random_access = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  no_fork_file = map_file();
  sparse = mmap(NULL, kSparse, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(sparse != MAP_FAILED);
  sparse[kSparse / 2] = 7;
  CHECK(madvise(no_fork, kSize, MADV_DONTFORK) == 0 && madvise(no_fork_quiet, kSize, MADV_DONTFORK) == 0);
  CHECK(madvise(no_fork_file, 2 * PAGE, MADV_DONTFORK) == 0 && madvise(sparse, kSparse, MADV_DONTFORK) == 0);
  CHECK(madvise(wiped, kSize, MADV_WIPEONFORK) == 0);
  has_mergeable = madvise(mergeable, kSize, MADV_MERGEABLE) == 0;
  CHECK(madvise(random_access, 4 * PAGE, MADV_RANDOM) == 0 && madvise(random_access + 4 * PAGE, 4 * PAGE, MADV_SEQUENTIAL) == 0);
  droppable = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
  if (droppable == MAP_FAILED) droppable = NULL;
  if (droppable != NULL) pattern_fill(droppable, kSize, 4);
  // With room below it, as a stack has.
  char* room = map_anonymous(4 * MIB, PROT_NONE);
  growing = room + 2 * MIB;
  CHECK(munmap(room, 4 * MIB) == 0);
  CHECK(mmap(growing, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == growing);
  pattern_fill(growing, PAGE, 5);
  sealed = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(sealed, kSize, 6);
  CHECK(mprotect(sealed + PAGE, PAGE, PROT_NONE) == 0);
  has_seal = syscall(462, sealed, kSize, 0UL) == 0;
  victim_wait(check);
  if (victim_broken()) wiped[0] ^= 1;
  check();
  CHECK(mprotect(no_fork_quiet, kSize, PROT_READ) == 0 && pattern_holds(no_fork_quiet, kSize, 10));
  growing[-(long)PAGE] = 1;
  growing[-2 * (long)PAGE] = 1;
  CHECK(pattern_holds(sealed, PAGE, 6));
  victim_pass();
}
