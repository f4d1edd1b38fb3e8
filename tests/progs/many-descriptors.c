// Ten thousand descriptors: counters, pipes with something in them, one file opened over and over, duplicates.
#include "victim.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { kCounters = 4000, kPipes = 2000, kFiles = 1500, kCopies = 500 };

static int counters[kCounters], pipes[kPipes][2], files[kFiles], copies[kCopies];

static void check(void) {
  for (int i = 0; i < kCounters; ++i) {
    uint64_t value = 0;
    if (read(counters[i], &value, 8) != 8 || value != (uint64_t)i + 1) victim_fail("counter %d: %llu", i, (unsigned long long)value);
    CHECK(write(counters[i], &value, 8) == 8);
  }
  for (int i = 0; i < kPipes; ++i) {
    int number = -1;
    if (read(pipes[i][0], &number, sizeof number) != sizeof number || number != i) victim_fail("pipe %d: %d", i, number);
    CHECK(write(pipes[i][1], &number, sizeof number) == sizeof number);
  }
  for (int i = 0; i < kFiles; ++i) {
    if (lseek(files[i], 0, SEEK_CUR) != i) victim_fail("file %d moved", i);
  }
  for (int i = 0; i < kCopies; ++i) {
    CHECK(lseek(copies[i], 1, SEEK_CUR) == i + 1 && lseek(files[i], 0, SEEK_CUR) == i + 1 && lseek(copies[i], -1, SEEK_CUR) == i);
  }
}

int main(void) {
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  if (limit.rlim_max < 10300) return 77;
  limit.rlim_cur = 10100;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  int fd = open(victim_path("file"), O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && ftruncate(fd, kFiles) == 0 && close(fd) == 0);
  for (int i = 0; i < kCounters; ++i) CHECK((counters[i] = eventfd((unsigned)i + 1, EFD_NONBLOCK)) >= 0);
  for (int i = 0; i < kPipes; ++i) CHECK(pipe(pipes[i]) == 0 && write(pipes[i][1], &i, sizeof i) == sizeof i);
  for (int i = 0; i < kFiles; ++i) CHECK((files[i] = open(victim_path("file"), O_RDONLY)) >= 0 && lseek(files[i], i, SEEK_SET) == i);
  for (int i = 0; i < kCopies; ++i) CHECK((copies[i] = dup(files[i])) >= 0);
  victim_wait(check);
  if (victim_broken()) CHECK(dup2(counters[0], counters[1]) >= 0);
  check();
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 10100);
  victim_pass();
}
