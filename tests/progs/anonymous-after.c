// Anonymous memory is anonymous afterwards: MADV_DONTNEED gives zeros, MADV_FREE and MADV_WIPEONFORK are accepted, growth by mremap
// shows zeros, and a fork copies.
#include "victim.h"

#include <sys/wait.h>

enum { kSize = 32 * 4096 };
static char* dropped;
static char* freed;
static char* grown;
static char* forked;
static char* wiped;

static void fork_copies(void) {
  pid_t child = fork();
  if (child == 0) {
    int good = pattern_holds(forked, kSize, 4) && is_zero(wiped, kSize);
    pattern_fill(forked, kSize, 99);
    _exit(good ? 0 : 1);
  }
  int status;
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(pattern_holds(forked, kSize, 4));
}

static void check(void) {
  CHECK(pattern_holds(dropped, kSize, 1) && pattern_holds(freed, kSize, 2));
  CHECK(pattern_holds(grown, kSize, 3) && pattern_holds(forked, kSize, 4));
}

int main(void) {
  char** areas[] = {&dropped, &freed, &grown, &forked, &wiped};
  for (size_t i = 0; i < 5; ++i) {
    *areas[i] = map_anonymous(kSize, PROT_READ | PROT_WRITE);
    pattern_fill(*areas[i], kSize, i + 1);
  }
  victim_wait(check);
  check();
  if (!victim_broken()) CHECK(madvise(dropped, kSize, MADV_DONTNEED) == 0);
  CHECK(is_zero(dropped, kSize));
  CHECK(madvise(freed, kSize, MADV_FREE) == 0);
  grown = mremap(grown, kSize, 4 * kSize, MREMAP_MAYMOVE);
  CHECK(grown != MAP_FAILED && pattern_holds(grown, kSize, 3) && is_zero(grown + kSize, 3 * kSize));
  pattern_fill(grown, 4 * kSize, 8);
  grown = mremap(grown, 4 * kSize, kSize / 2, MREMAP_MAYMOVE);
  CHECK(grown != MAP_FAILED && pattern_holds(grown, kSize / 2, 8));
  grown = mremap(grown, kSize / 2, kSize, MREMAP_MAYMOVE);
  CHECK(grown != MAP_FAILED && is_zero(grown + kSize / 2, kSize / 2));
  CHECK(madvise(wiped, kSize, MADV_WIPEONFORK) == 0);
  fork_copies();
  CHECK(pattern_holds(wiped, kSize, 5));
  victim_pass();
}
