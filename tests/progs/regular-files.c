// Descriptors of regular files: number, offset, access mode, O_APPEND, FD_CLOEXEC, offsets shared by dup, independent opens of one
// file.
#include "victim.h"

enum { kHigh = 200, kSize = 100000 };
static int reading, writing, appending, shared, shared_copy, first, second, closing;
static off_t shared_at = 4321;

static int open_at(const char* name, int flags, off_t offset) {
  int fd = open(victim_path(name), flags, 0644);
  if (fd < 0) victim_fail("open %s: %s", name, strerror(errno));
  CHECK(lseek(fd, offset, SEEK_SET) == offset);
  return fd;
}

static void expect(int fd, off_t offset, int flags, int descriptor_flags) {
  if (lseek(fd, 0, SEEK_CUR) != offset)
    victim_fail("descriptor %d is at %ld, not %ld", fd, (long)lseek(fd, 0, SEEK_CUR), (long)offset);
  int now = fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_NOATIME);
  if (now != flags) victim_fail("descriptor %d has status flags %#o, not %#o", fd, now, flags);
  if (fcntl(fd, F_GETFD) != descriptor_flags) victim_fail("descriptor %d has flags %d", fd, fcntl(fd, F_GETFD));
}

static void check(void) {
  expect(reading, 16, O_RDONLY, 0);
  uint64_t word;
  CHECK(pread(reading, &word, 8, 16) == 8 && word == pattern_word(1, 2));
  expect(writing, 60000, O_RDWR, 0);
  expect(appending, 10, O_WRONLY | O_APPEND, 0);
  expect(shared, shared_at, O_RDWR | O_NONBLOCK, 0);
  expect(shared_copy, shared_at, O_RDWR | O_NONBLOCK, FD_CLOEXEC);
  // One moves, the other moves.
  shared_at = shared_at % 5000 + 100;
  CHECK(lseek(shared, shared_at, SEEK_SET) == shared_at && lseek(shared_copy, 0, SEEK_CUR) == shared_at);
  expect(first, 1000, O_RDONLY, 0);
  expect(second, 2000, O_RDONLY, 0);
  CHECK(lseek(first, 3000, SEEK_SET) == 3000 && lseek(second, 0, SEEK_CUR) == 2000 && lseek(first, 1000, SEEK_SET) == 1000);
  CHECK(fcntl(closing, F_GETFD) == FD_CLOEXEC);
  // Nothing is open beyond these.
  for (int fd = 3; fd < 1024; ++fd) {
    int known = fd == reading || fd == writing || fd == appending || fd == shared || fd == shared_copy || fd == first ||
                fd == second || fd == closing;
    if (!known && fcntl(fd, F_GETFD) != -1) victim_fail("descriptor %d is open", fd);
  }
}

int main(void) {
  // Leave a clean table, whoever started this.
  for (int fd = 3; fd < 1024; ++fd) close(fd);
  static char content[kSize];
  pattern_fill(content, kSize, 1);
  int fd = open(victim_path("data"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  CHECK(write(fd, content, kSize) == kSize && close(fd) == 0);
  reading = open_at("data", O_RDONLY, 16);
  writing = open_at("written", O_RDWR | O_CREAT, 0);
  CHECK(write(writing, content, 60000) == 60000);
  appending = open_at("appended", O_WRONLY | O_CREAT | O_APPEND, 0);
  CHECK(write(appending, "0123456789", 10) == 10);
  shared = open_at("data", O_RDWR | O_NONBLOCK, shared_at);
  shared_copy = fcntl(shared, F_DUPFD_CLOEXEC, kHigh);
  CHECK(shared_copy == kHigh);
  first = open_at("data", O_RDONLY, 1000);
  second = open_at("data", O_RDONLY, 2000);
  closing = open_at("data", O_RDONLY | O_CLOEXEC, 5);
  victim_wait(check);
  if (victim_broken()) lseek(second, 7, SEEK_SET);
  check();
  CHECK(write(appending, "abc", 3) == 3 && lseek(appending, 0, SEEK_CUR) == 13);
  CHECK(pread(writing, content, 60000, 0) == 60000 && pattern_holds(content, 60000 / 8 * 8, 1));
  CHECK(write(writing, "x", 1) == 1);
  struct stat status;
  CHECK(fstat(writing, &status) == 0 && status.st_size == 60001);
  victim_pass();
}
