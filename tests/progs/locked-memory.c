// mlock, MLOCK_ONFAULT and mlockall(MCL_FUTURE): what is locked is locked afterwards, and what is mapped then, too (argument
// "all").
#include "victim.h"

#include <sys/resource.h>

static char *locked, *lazily, *quiet, *plain;
static int is_all;

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
  CHECK(has_flag(locked, " lo") && !has_flag(locked, " lf") && pattern_holds(locked, 4 * PAGE, 1));
  CHECK(has_flag(lazily, " lo") && has_flag(lazily, " lf"));
  unsigned char is_there[64];
  CHECK(mincore(lazily, 64 * PAGE, is_there) == 0 && is_there[0] != 0 && is_there[63] == 0);
  CHECK(has_flag(quiet, " lo"));
  CHECK(!has_flag(plain, " lo"));
  char* fresh = map_anonymous(PAGE, PROT_READ | PROT_WRITE);
  CHECK(has_flag(fresh, " lo") == is_all);
  munmap(fresh, PAGE);
}

int main(int argc, char** argv) {
  is_all = argc > 1 && strcmp(argv[1], "all") == 0;
  locked = map_anonymous(4 * PAGE, PROT_READ | PROT_WRITE);
  pattern_fill(locked, 4 * PAGE, 1);
  lazily = map_anonymous(64 * PAGE, PROT_READ | PROT_WRITE);
  quiet = map_anonymous(2 * PAGE, PROT_NONE);
  plain = map_anonymous(2 * PAGE, PROT_READ | PROT_WRITE);
  CHECK(mlock(locked, 4 * PAGE) == 0 && mlock2(lazily, 64 * PAGE, MLOCK_ONFAULT) == 0);
  (void)!mlock(quiet, 2 * PAGE);
  lazily[0] = 1;
  // Our own scratch memory counts as well.
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  if (is_all && geteuid() != 0 && limit.rlim_cur < 1024 * MIB) return 77;
  if (is_all && mlockall(MCL_FUTURE) != 0) return 77;
  if (!is_all) {
    limit.rlim_cur = 0;  // what is locked stays so
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  }
  victim_wait(check);
  if (victim_broken()) munlock(locked, PAGE);
  check();
  victim_pass();
}
