// A PROT_NONE area keeps its contents and its protection.
#include "victim.h"

enum { kSize = 64 * 4096 };
static char* area;

static int is_readable(void) {
  // The kernel says EFAULT instead of a signal.
  int fd = open("/dev/null", O_WRONLY);
  int pipes[2];
  CHECK(close(fd) == 0 && pipe(pipes) == 0);
  int readable = write(pipes[1], area, 1) == 1;
  close(pipes[0]);
  close(pipes[1]);
  return readable;
}

static void check(void) {
  CHECK(!is_readable());
  CHECK(mprotect(area, kSize, PROT_READ) == 0);
  CHECK(pattern_holds(area, kSize, 4));
  CHECK(mprotect(area, kSize, PROT_NONE) == 0);
}

int main(void) {
  area = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(area, kSize, 4);
  CHECK(mprotect(area, kSize, PROT_NONE) == 0);
  victim_wait(check);
  if (victim_broken()) {
    mprotect(area, kSize, PROT_READ | PROT_WRITE);
    area[12345] ^= 1;
    mprotect(area, kSize, PROT_NONE);
  }
  check();
  victim_pass();
}
