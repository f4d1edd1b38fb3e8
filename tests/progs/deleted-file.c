// Files that were deleted while open: contents, holes, size, offsets; of one with two independent opens too. Temporary files work
// so.
#include "victim.h"

enum { kSize = 3 << 20 };
static int plain, sparse, empty, first, second;
static char content[kSize];

static void check(void) {
  struct stat status;
  CHECK(fstat(plain, &status) == 0 && status.st_size == kSize && status.st_nlink == 0);
  CHECK(lseek(plain, 0, SEEK_CUR) == 777);
  CHECK(pread(plain, content, kSize, 0) == kSize && pattern_holds(content, kSize, 3));
  CHECK(fstat(sparse, &status) == 0 && status.st_size == (1LL << 32) + 8 && status.st_nlink == 0);
  CHECK(status.st_blocks < 10000);
  CHECK(pread(sparse, content, PAGE, 1LL << 31) == (ssize_t)PAGE && is_zero(content, PAGE));
  uint64_t word = 0;
  CHECK(pread(sparse, &word, 8, 1LL << 32) == 8 && word == 4711);
  CHECK(fstat(empty, &status) == 0 && status.st_size == 0 && status.st_nlink == 0);
  CHECK(lseek(first, 0, SEEK_CUR) == 1 && lseek(second, 0, SEEK_CUR) == 2);
  // Both opens are of one file.
  word = (uint64_t)now_ns(CLOCK_MONOTONIC);
  uint64_t other = 0;
  CHECK(pwrite(first, &word, 8, 64) == 8 && pread(second, &other, 8, 64) == 8 && word == other);
}

int main(void) {
  pattern_fill(content, kSize, 3);
  plain = open(victim_path("plain"), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(write(plain, content, kSize) == kSize && lseek(plain, 777, SEEK_SET) == 777);
  CHECK(unlink(victim_path("plain")) == 0);
  sparse = open(victim_path("sparse"), O_RDWR | O_CREAT | O_EXCL, 0600);
  uint64_t word = 4711;
  CHECK(pwrite(sparse, &word, 8, 1LL << 32) == 8 && unlink(victim_path("sparse")) == 0);
  empty = open(victim_path("empty"), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(empty >= 0 && unlink(victim_path("empty")) == 0);
  first = open(victim_path("twice"), O_RDWR | O_CREAT | O_EXCL, 0600);
  second = open(victim_path("twice"), O_RDONLY);
  CHECK(write(first, content, 100) == 100 && lseek(first, 1, SEEK_SET) == 1 && lseek(second, 2, SEEK_SET) == 2);
  CHECK(unlink(victim_path("twice")) == 0);
  victim_wait(check);
  if (victim_broken()) pwrite(plain, "x", 1, 123456) == 1 ? (void)0 : abort();
  check();
  CHECK(lseek(plain, 0, SEEK_END) == kSize && write(plain, "more", 4) == 4);
  victim_pass();
}
