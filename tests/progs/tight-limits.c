// A program that has hardly any room left below its limits of address space and of data: they are what they were, and hold.
#include "victim.h"

#include <sys/resource.h>

enum { kRoom = 1 << 20 };
static struct rlimit space, data;

static void verify(void) {
  struct rlimit now;
  CHECK(getrlimit(RLIMIT_AS, &now) == 0 && now.rlim_cur == space.rlim_cur && now.rlim_max == space.rlim_max);
  CHECK(getrlimit(RLIMIT_DATA, &now) == 0 && now.rlim_cur == data.rlim_cur && now.rlim_max == data.rlim_max);
  CHECK(mmap(NULL, 2 * kRoom, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
}

int main(void) {
  char text[256];
  CHECK(read_file("/proc/self/statm", text, sizeof text) > 0);
  CHECK(getrlimit(RLIMIT_AS, &space) == 0 && getrlimit(RLIMIT_DATA, &data) == 0);
  space.rlim_cur = (rlim_t)atol(text) * PAGE + kRoom;
  data.rlim_cur = 2 * kRoom;
  CHECK(setrlimit(RLIMIT_AS, &space) == 0 && setrlimit(RLIMIT_DATA, &data) == 0);
  victim_wait(verify);
  if (victim_broken()) ++space.rlim_cur;
  verify();
  victim_pass();
}
