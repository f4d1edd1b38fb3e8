// A file that is too large to be kept, written through shared memory only. When $VICTIM_DIR/write is there, the next round writes
// the same page again.
#include "victim.h"

enum { kSize = 65 << 20 };

static volatile uint64_t* word;
static uint64_t expected = 1;

static void check(void) {
  if (*word != expected) victim_fail("%lu instead of %lu", *word, expected);
  if (victim_exists("write")) *word = ++expected;
}

int main(void) {
  int fd = open(victim_path("large"), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0 && ftruncate(fd, kSize) == 0);
  void* memory = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(memory != MAP_FAILED && close(fd) == 0);
  word = (volatile uint64_t*)((char*)memory + kSize / 2);
  *word = expected;
  victim_wait(check);
  if (victim_broken()) *word = 0;
  check();
  victim_pass();
}
