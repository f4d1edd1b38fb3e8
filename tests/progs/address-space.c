// Where things are and may go: areas at low and odd fixed addresses, a break that was never moved, and a stack that grows up to its
// limit, whatever was mapped in the meantime.
#include "victim.h"

#include <sys/resource.h>

enum { kFrame = 64 * 1024 };
static const uintptr_t kFixed[] = {0x10000,    0x400000,    0x10000000,   0x50000000,
                                   0xfffff000, 0x100000000, 0x1000000000, 0x600000000000};
enum { kCount = sizeof kFixed / sizeof kFixed[0] };
static void* start;
static size_t grown;

__attribute__((noinline)) static void descend(size_t bytes) {
  volatile char local[kFrame];
  pattern_fill(local, kFrame, bytes);
  if (bytes > kFrame) descend(bytes - kFrame);
  CHECK(pattern_holds(local, kFrame, bytes));
}

static void check(void) {
  for (size_t i = 0; i < kCount; ++i) CHECK(pattern_holds((void*)kFixed[i], PAGE, i));
  CHECK((char*)sbrk(0) == (char*)start + grown);
  char* more = sbrk(3 * PAGE + 5);
  CHECK(more == (char*)start + grown && is_zero(more, 3 * PAGE + 5));
  grown += 3 * PAGE + 5;
  CHECK(sbrk(-5) != (void*)-1);
  grown -= 5;
}

int main(void) {
  for (size_t i = 0; i < kCount; ++i) {
    char* memory = mmap((void*)kFixed[i], PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory != (char*)kFixed[i]) return 77;
    pattern_fill(memory, PAGE, i);
  }
  start = sbrk(0);
  victim_wait(check);
  if (victim_broken()) *(char*)kFixed[3] ^= 1;
  check();
  for (int i = 0; i < 300; ++i) CHECK(map_anonymous(MIB, PROT_READ | PROT_WRITE) != NULL);
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
  descend(limit.rlim_cur == RLIM_INFINITY ? 200 * MIB : limit.rlim_cur / 8 * 7);
  victim_pass();
}
