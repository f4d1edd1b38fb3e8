// A read-only anonymous area keeps its contents, and a write to it still fails.
#include "victim.h"

enum { kSize = 64 * 4096 };
static char* area;

static int is_writable(void) {
  int fd = open("/dev/zero", O_RDONLY);
  int writable = read(fd, area, 1) == 1;
  close(fd);
  return writable;
}

static void check(void) {
  CHECK(pattern_holds(area, kSize, 6));
  CHECK(!is_writable());
}

int main(void) {
  area = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  pattern_fill(area, kSize, 6);
  CHECK(mprotect(area, kSize, PROT_READ) == 0);
  victim_wait(check);
  if (victim_broken()) mprotect(area, kSize, PROT_READ | PROT_WRITE);
  check();
  CHECK(mprotect(area, kSize, PROT_READ | PROT_WRITE) == 0);
  pattern_fill(area, kSize, 7);
  CHECK(pattern_holds(area, kSize, 7));
  victim_pass();
}
