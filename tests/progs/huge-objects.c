// Shared memory of the reserved pool of huge pages: memory files, open, mapped and mapped privately, and shared anonymous memory.
#include "victim.h"

#include <linux/memfd.h>

#define HUGE (2 * MIB)

static int mapped, open_only;
static char* shared;   // of `mapped`: two pages
static char* private;  // … the same, of which the first page is written to and its second half cleared
static char* nameless; // anonymous: two pages, the second for reading
static char turn = 1;

static int is_huge(const char* address) {
  static char smaps[4 << 20];
  CHECK(read_file("/proc/self/smaps", smaps, sizeof smaps) > 0);
  int inside = 0;
  for (char* line = strtok(smaps, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = (unsigned long)address >= start && (unsigned long)address < end;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) return strstr(line, " ht") != NULL;
  }
  return 0;
}

static void check_private(void) {
  CHECK(pattern_holds(private, HUGE / 2, (uint64_t)turn) && is_zero(private + HUGE / 2, HUGE / 2));
  CHECK(pattern_holds(private + HUGE, PAGE, 50 + (uint64_t)turn));
  CHECK(madvise(private, HUGE, MADV_DONTNEED) == 0 && pattern_holds(private, HUGE, 10 + (uint64_t)turn));
}

static void fill(void) {
  pattern_fill(shared, HUGE, 10 + (uint64_t)turn);
  pattern_fill(shared + HUGE, PAGE, 50 + (uint64_t)turn);
  pattern_fill(private, HUGE / 2, (uint64_t)turn);
  memset(private + HUGE / 2, 0, HUGE / 2);
  nameless[5] = turn;
}

static void check(void) {
  CHECK(is_huge(shared) && is_huge(shared + HUGE) && is_huge(private) && is_huge(nameless) && is_huge(nameless + HUGE));
  CHECK(pattern_holds(shared, HUGE, 10 + (uint64_t)turn) && is_zero(shared + HUGE + PAGE, HUGE - PAGE));
  check_private();
  struct stat status;
  CHECK(fstat(mapped, &status) == 0 && status.st_size == 2 * HUGE && status.st_blksize == HUGE);
  CHECK(fcntl(mapped, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_SEAL));
  CHECK(fstat(open_only, &status) == 0 && status.st_size == 3 * HUGE && status.st_blocks == HUGE / 512);
  CHECK(nameless[5] == turn && pattern_holds(nameless + HUGE, HUGE, 3) && nameless[6] == 0);
  ++turn;
  fill();
  CHECK(pread(mapped, &status, sizeof status, 0) == sizeof status && memcmp(&status, shared, sizeof status) == 0);
}

static char* map(int fd, size_t size, int flags) {
  char* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

int main(void) {
  mapped = memfd_create("mapped", MFD_HUGETLB | MFD_HUGE_2MB | MFD_ALLOW_SEALING);
  if (mapped < 0 || ftruncate(mapped, 2 * HUGE) != 0) return 77;
  shared = map(mapped, 2 * HUGE, MAP_SHARED);
  private = map(mapped, 2 * HUGE, MAP_PRIVATE);
  CHECK(fcntl(mapped, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0);
  open_only = memfd_create("open", MFD_HUGETLB | MFD_HUGE_2MB);
  CHECK(ftruncate(open_only, 3 * HUGE) == 0);
  char* window = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, open_only, HUGE);
  CHECK(window != MAP_FAILED);
  window[7] = 7;
  CHECK(munmap(window, HUGE) == 0);
  nameless = map(-1, 2 * HUGE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT);
  pattern_fill(nameless + HUGE, HUGE, 3);
  CHECK(mprotect(nameless + HUGE, HUGE, PROT_READ) == 0);
  fill();
  victim_wait(check);
  if (victim_broken()) nameless[6] = 1;
  check();
  char byte = 0;
  CHECK(pread(open_only, &byte, 1, HUGE + 7) == 1 && byte == 7);
  victim_pass();
}
