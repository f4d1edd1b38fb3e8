// Memory that a fork leaves out (MADV_DONTFORK, MADV_WIPEONFORK), in two processes of a job: each keeps its own.
#include "members.h"

enum { kPages = 40 };

static void* memory[2];
static struct Member child;

static void make(uint64_t seed) {
  for (int i = 0; i < 2; ++i) {
    memory[i] = map_anonymous(kPages * PAGE, PROT_READ | PROT_WRITE);
    CHECK(madvise(memory[i], kPages * PAGE, i == 0 ? MADV_DONTFORK : MADV_WIPEONFORK) == 0);
    pattern_fill(memory[i], kPages * PAGE, seed + (uint64_t)i);
  }
}

static long holds(uint64_t seed) {
  for (int i = 0; i < 2; ++i) {
    if (!pattern_holds(memory[i], kPages * PAGE, seed + (uint64_t)i)) return 0;
  }
  pid_t pid = fork();
  if (pid == 0) {
    unsigned char present[kPages];
    _exit(mincore(memory[0], kPages * PAGE, present) == -1 && errno == ENOMEM && is_zero(memory[1], kPages * PAGE) ? 0 : 1);
  }
  int status;
  return waitpid(pid, &status, 0) == pid && status == 0;
}

static long obey(int order) {
  if (order == 'm') make(20);
  return holds(20);
}

static void check(void) {
  if (!holds(10)) victim_fail("memory of the first process");
  if (!member_do(&child, 'c')) victim_fail("memory of the child");
}

int main(void) {
  child = member_start(obey);
  CHECK(member_do(&child, 'm'));
  make(10);
  victim_wait(check);
  if (victim_broken()) memset(memory[1], 0, PAGE);
  check();
  member_end(&child);
  victim_pass();
}
