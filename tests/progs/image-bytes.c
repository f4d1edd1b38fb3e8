// Image bytes equal memory bytes: random pages, also written to $VICTIM_DIR/pages, which the test looks for in the image.
#include "victim.h"

#include <sys/random.h>

enum { kPages = 64 };
static char* area;
static char copy[kPages * 4096 + 1];

static void check(void) {
  CHECK(read_file(victim_path("pages"), copy, sizeof copy) == kPages * 4096);
  CHECK(memcmp(copy, area, kPages * PAGE) == 0);
}

int main(void) {
  area = map_anonymous(kPages * PAGE, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < kPages; ++i) CHECK(getrandom(area + i * PAGE, PAGE, 0) == (ssize_t)PAGE);
  int fd = open(victim_path("pages"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  CHECK(write(fd, area, kPages * PAGE) == kPages * 4096);
  close(fd);
  victim_wait(check);
  if (victim_broken()) area[7] ^= 1;
  check();
  victim_pass();
}
