// The brk heap: contents, the break itself, and that it grows on afterwards.
#include "victim.h"

#include <malloc.h>

enum { kBlocks = 4000, kBlockSize = 2048 };
static void* blocks[kBlocks];
static void* heap_end;
static char* heap_start;

static void check(void) {
  CHECK(sbrk(0) == heap_end);
  for (int i = 0; i < kBlocks; ++i) CHECK(pattern_holds(blocks[i], kBlockSize, (uint64_t)i));
  char* grown = sbrk((intptr_t)MIB);
  CHECK(grown == heap_end);
  CHECK(is_zero(grown, MIB));
  pattern_fill(grown, MIB, 77);
  CHECK(pattern_holds(grown, MIB, 77));
  heap_end = sbrk(0);
  CHECK((char*)heap_end == grown + MIB);
}

int main(void) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  heap_start = sbrk(0);
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockSize);
    pattern_fill(blocks[i], kBlockSize, (uint64_t)i);
  }
  CHECK((char*)blocks[kBlocks - 1] < (char*)sbrk(0));
  // malloc takes what somebody else added to the break for foreign and goes on above it.
  heap_end = sbrk(0);
  victim_wait(check);
  if (victim_broken()) ((char*)blocks[17])[5] ^= 1;
  check();
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
  for (int i = 0; i < 1000; ++i) CHECK(malloc(10000) != NULL);
  victim_pass();
}
