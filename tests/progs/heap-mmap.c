// Memory from mmap, in areas of many sizes; and that mmap and large mallocs go on afterwards.
#include "victim.h"

enum { kAreas = 60 };
static void* areas[kAreas];
static size_t sizes[kAreas];
static void* large;

static void check(void) {
  for (int i = 0; i < kAreas; ++i) CHECK(pattern_holds(areas[i], sizes[i], (uint64_t)i));
  CHECK(pattern_holds(large, 8 * MIB, 1000));
  void* fresh = map_anonymous(4 * MIB, PROT_READ | PROT_WRITE);
  CHECK(is_zero(fresh, 4 * MIB));
  pattern_fill(fresh, 4 * MIB, 5);
  CHECK(pattern_holds(fresh, 4 * MIB, 5));
  CHECK(munmap(fresh, 4 * MIB) == 0);
  // What was saved is written again, so that the next checkpoint has news.
  for (int i = 0; i < kAreas; i += 7) pattern_fill(areas[i], sizes[i], (uint64_t)i);
}

int main(void) {
  for (int i = 0; i < kAreas; ++i) {
    sizes[i] = PAGE * (size_t)(1 + i * i % 97);
    areas[i] = map_anonymous(sizes[i], PROT_READ | PROT_WRITE);
    pattern_fill(areas[i], sizes[i], (uint64_t)i);
  }
  large = malloc(8 * MIB);
  pattern_fill(large, 8 * MIB, 1000);
  victim_wait(check);
  if (victim_broken()) ((char*)areas[33])[sizes[33] - 1] ^= 0x80;
  check();
  large = realloc(large, 32 * MIB);
  CHECK(large != NULL && pattern_holds(large, 8 * MIB, 1000));
  free(large);
  victim_pass();
}
