// Names that the program has given to its memory (PR_SET_VMA_ANON_NAME). Where the kernel knows none (CONFIG_ANON_VMA_NAME), there
// must be none afterwards either.
#include "victim.h"

#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

enum { kPages = 4 };
static char* area;  // its second page has a name, its third another one
static char* shared;
static int has_private, has_shared;

// What stands behind the numbers in the line of /proc/self/maps that the address is in.
static const char* name_of(const char* address) {
  static char maps[1 << 20];
  CHECK(read_file("/proc/self/maps", maps, sizeof maps) > 0);
  for (char* line = strtok(maps, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    unsigned long start, end;
    int name = 0;
    if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &name) < 2) continue;
    if ((unsigned long)address >= start && (unsigned long)address < end) return line + name;
  }
  victim_fail("%p is not mapped", (const void*)address);
}

static void expect(const char* address, const char* wanted) {
  const char* name = name_of(address);
  if (strcmp(name, wanted) != 0) victim_fail("memory is called '%s' instead of '%s'", name, wanted);
}

static int give_name(char* address, const char* name) {
  if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, PAGE, name) == 0) return 1;
  CHECK(errno == EINVAL || errno == EBADF);
  return 0;
}

static void check(void) {
  expect(area, "");
  expect(area + PAGE, has_private ? "[anon:first name]" : "");
  expect(area + 2 * PAGE, has_private ? "[anon:second: name]" : "");
  expect(area + 3 * PAGE, "");
  expect(shared, has_shared ? "[anon_shmem:of all]" : "/dev/zero (deleted)");
  expect(shared + PAGE, "/dev/zero (deleted)");
  CHECK(pattern_holds(area, kPages * PAGE, 1) && pattern_holds(shared, kPages * PAGE, 2));
}

int main(void) {
  // Apart from other memory without a name.
  area = map_anonymous((kPages + 2) * PAGE, PROT_NONE) + PAGE;
  CHECK(mprotect(area, kPages * PAGE, PROT_READ | PROT_WRITE) == 0);
  shared = mmap(NULL, kPages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  pattern_fill(area, kPages * PAGE, 1);
  pattern_fill(shared, kPages * PAGE, 2);
  has_private = give_name(area + PAGE, "first name") && give_name(area + 2 * PAGE, "second: name");
  has_shared = give_name(shared, "of all");
  victim_wait(check);
  if (victim_broken()) area[PAGE] ^= 1;
  check();
  victim_pass();
}
