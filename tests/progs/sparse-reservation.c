// A reservation of 1 TiB, as Go, GHC and sanitizers make them: PROT_NONE with a few pages opened, and one readable and writable
// without backing. Few pages are touched; the image must stay small (the test looks) and nothing may be touched on the way.
#include "victim.h"

enum { kTouched = 16 };
static const size_t kSize = 1UL << 40;
static char* closed;
static char* open_area;

static size_t resident_pages(void) {
  char text[128];
  size_t size, resident;
  CHECK(read_file("/proc/self/statm", text, sizeof text) > 0);
  CHECK(sscanf(text, "%zu %zu", &size, &resident) == 2);
  return resident;
}

static size_t place(size_t i) { return i * (kSize / kTouched) + i * PAGE; }

static void check(void) {
  for (size_t i = 0; i < kTouched; ++i) {
    CHECK(pattern_holds(closed + place(i), PAGE, i));
    CHECK(pattern_holds(open_area + place(i), PAGE, 100 + i));
  }
  CHECK(resident_pages() < 16 * MIB / PAGE);
  CHECK(open_area[kSize / 3] == 0);
}

int main(void) {
  closed = mmap(NULL, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  open_area = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(closed != MAP_FAILED && open_area != MAP_FAILED);
  for (size_t i = 0; i < kTouched; ++i) {
    CHECK(mprotect(closed + place(i), PAGE, PROT_READ | PROT_WRITE) == 0);
    pattern_fill(closed + place(i), PAGE, i);
    pattern_fill(open_area + place(i), PAGE, 100 + i);
  }
  victim_wait(check);
  if (victim_broken()) open_area[place(3)] ^= 1;
  check();
  victim_pass();
}
