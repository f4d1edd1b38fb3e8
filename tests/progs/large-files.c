// Files that are too large to be kept: one that is written in place, and two logs, one of them longer than what is hashed. As long
// as nobody changes them they are as memory remembers them. When $VICTIM_DIR/write-in-place or write-logs is there, the next round
// writes.
#include "victim.h"

enum { kLarge = 65 << 20, kLog = 3 << 20, kBlock = 64 };

static int large, log_file, long_log;
static long counter, log_size = kLog, long_log_size = kLarge;

static void write_block(int fd, off_t at, long value) {
  char bytes[kBlock] = {0};
  snprintf(bytes, sizeof bytes, "block %ld\n", value);
  CHECK(at < 0 ? write(fd, bytes, sizeof bytes) == kBlock : pwrite(fd, bytes, sizeof bytes, at) == kBlock);
}

static int make(const char* name, int flags, off_t size) {
  int fd = open(victim_path(name), flags | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0 && ftruncate(fd, size) == 0);
  return fd;
}

static void verify(void) {
  char expected[kBlock] = {0}, found[kBlock] = {0};
  snprintf(expected, sizeof expected, "block %ld\n", counter);
  CHECK(pread(large, found, sizeof found, kLarge / 2) == kBlock);
  if (memcmp(expected, found, sizeof found) != 0) victim_fail("'%s' instead of '%s'", found, expected);
  struct stat status;
  CHECK(fstat(large, &status) == 0 && status.st_size == kLarge);
  if (fstat(log_file, &status) != 0 || status.st_size != log_size) victim_fail("the log has %ld bytes", (long)status.st_size);
  CHECK(fstat(long_log, &status) == 0 && status.st_size == long_log_size);
}

static void write_logs(void) {
  write_block(log_file, -1, ++counter);
  write_block(long_log, -1, counter);
  log_size += kBlock;
  long_log_size += kBlock;
  write_block(large, kLarge / 2, counter);
}

static void check(void) {
  verify();
  if (victim_exists("write-in-place")) write_block(large, kLarge / 2, ++counter);
  if (!victim_exists("write-logs")) return;
  write_block(log_file, -1, -1);
  write_block(long_log, -1, -1);
  log_size += kBlock;
  long_log_size += kBlock;
}

int main(void) {
  large = make("large", O_RDWR, kLarge);
  log_file = make("log", O_WRONLY | O_APPEND, kLog);
  long_log = make("long-log", O_WRONLY | O_APPEND, kLarge);
  write_logs();
  victim_wait(check);
  if (victim_broken()) CHECK(pwrite(large, "broken", 6, kLarge / 2) == 6);
  verify();
  victim_pass();
}
