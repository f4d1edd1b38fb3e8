// An area that grows downwards by itself (MAP_GROWSDOWN), with free room below: it grows on, a page in each round.
#include "victim.h"

enum { kRoom = 4 << 20 };
static char* lowest;
static int pages;

static void grow(void) {
  lowest -= PAGE;
  *lowest = (char)++pages;
  for (int i = 0; i < pages; ++i) {
    if (lowest[(size_t)i * PAGE] != (char)(pages - i)) victim_fail("page %d of %d is not what it was", i, pages);
  }
}

int main(void) {
  char* room = mmap(NULL, kRoom, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(room != MAP_FAILED && munmap(room, kRoom) == 0);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE;
  char* area = mmap(room + kRoom - 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
  CHECK(area != MAP_FAILED);
  lowest = area + 2 * PAGE;
  for (int i = 0; i < 3; ++i) grow();
  victim_wait(grow);
  if (victim_broken()) *lowest = 77;
  grow();
  victim_pass();
}
