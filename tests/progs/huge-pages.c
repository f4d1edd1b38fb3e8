// Transparent huge pages: contents, and that MADV_HUGEPAGE (and MADV_NOHUGEPAGE) still hold for the areas.
#include "victim.h"

enum { kSize = 16 << 20 };
static char* huge;
static char* small;

// Does the area at `address` carry the two-letter flag in its VmFlags?
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
  CHECK(pattern_holds(huge, kSize, 11));
  CHECK(pattern_holds(small, kSize / 4, 12));
  CHECK(has_flag(huge, " hg"));
  CHECK(has_flag(small, " nh"));
}

int main(void) {
  huge = map_anonymous(kSize, PROT_READ | PROT_WRITE);
  small = map_anonymous(kSize / 4, PROT_READ | PROT_WRITE);
  if (madvise(huge, kSize, MADV_HUGEPAGE) != 0 || madvise(small, kSize / 4, MADV_NOHUGEPAGE) != 0) {
    fputs("skip: kernel without transparent huge pages\n", stderr);
    return 77;
  }
  pattern_fill(huge, kSize, 11);
  pattern_fill(small, kSize / 4, 12);
  victim_wait(check);
  if (victim_broken()) huge[4 << 20] ^= 1;
  check();
  victim_pass();
}
