// Private memory of the reserved pool of huge pages: contents, untouched pages, protections, and that it is still of the pool.
#include "victim.h"

#define HUGE (2 * MIB)

enum { kPages = 4 };
static char* memory;

static int has_flag(const char* address, const char* flag) {
  static char smaps[4 << 20];
  CHECK(read_file("/proc/self/smaps", smaps, sizeof smaps) > 0);
  int inside = 0;
  for (char* line = strtok(smaps, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = (unsigned long)address >= start && (unsigned long)address < end;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) return strstr(line, flag) != NULL;
  }
  return 0;
}

static void check(void) {
  CHECK(pattern_holds(memory, HUGE, 1) && is_zero(memory + HUGE, HUGE) && pattern_holds(memory + 2 * HUGE, HUGE, 2));
  for (int i = 0; i < kPages; ++i) CHECK(has_flag(memory + i * HUGE, " ht"));
  memory[HUGE] = 1;
  memory[HUGE] = 0;
}

int main(void) {
  memory =
      mmap(NULL, kPages * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);
  if (memory == MAP_FAILED) return 77;
  pattern_fill(memory, HUGE, 1);
  pattern_fill(memory + 2 * HUGE, 2 * HUGE, 2);
  pattern_fill(memory + 3 * HUGE, HUGE, 3);
  CHECK(mprotect(memory + 2 * HUGE, HUGE, PROT_READ) == 0 && mprotect(memory + 3 * HUGE, HUGE, PROT_NONE) == 0);
  victim_wait(check);
  if (victim_broken()) memory[0] ^= 1;
  check();
  CHECK(mprotect(memory + 3 * HUGE, HUGE, PROT_READ) == 0 && pattern_holds(memory + 3 * HUGE, HUGE, 3));
  victim_pass();
}
