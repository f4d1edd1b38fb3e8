// Memory files: names, sizes, holes, seals, modes, mapped or open or both, several descriptions, memory that only a mapping keeps.
#include "victim.h"

#include <linux/memfd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 0x10U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif

static int plain, plain_too, reader, appender, sealed, future, quiet, empty, sparse;
static char* code_writable;  // code as a compiler at run time keeps it: mapped twice, the descriptor closed
static int (*code)(void);
static char* window;    // of `future`, writable though no new one may be
static char* view;      // of `sealed`
static char* constant;  // from a descriptor that is open for reading only
static int has_exec_seals;
static uint64_t turn = 1;

static int make(const char* name, unsigned flags) {
  int fd = memfd_create(name, flags);
  CHECK(fd >= 0);
  return fd;
}

static int reopen(int fd, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int again = open(path, flags);
  CHECK(again >= 0);
  return again;
}

static void expect_link(int fd, const char* wanted) {
  char path[64], link[256] = "";
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, link, sizeof link - 1) > 0);
  if (strcmp(link, wanted) != 0) victim_fail("descriptor %d is '%s' instead of '%s'", fd, link, wanted);
}

static void expect_mode(int fd, mode_t mode, off_t size) {
  struct stat status;
  CHECK(fstat(fd, &status) == 0);
  if ((status.st_mode & 07777) != mode || status.st_size != size)
    victim_fail("descriptor %d: mode %o, size %ld", fd, status.st_mode & 07777, (long)status.st_size);
}

static void set_code(uint32_t value) {
  unsigned char bytes[6] = {0xb8, 0, 0, 0, 0, 0xc3};
  memcpy(bytes + 1, &value, 4);
  memcpy(code_writable, bytes, sizeof bytes);
}

static void check_descriptions(void) {
  CHECK(lseek(plain, 0, SEEK_CUR) == 5 && lseek(plain_too, 0, SEEK_CUR) == 5 && lseek(reader, 0, SEEK_CUR) == 2);
  CHECK(lseek(plain, 1, SEEK_CUR) == 6 && lseek(plain_too, 0, SEEK_CUR) == 6 && lseek(plain, 5, SEEK_SET) == 5);
  CHECK((fcntl(reader, F_GETFL) & O_ACCMODE) == O_RDONLY && (fcntl(appender, F_GETFL) & O_APPEND) != 0);
  CHECK(fcntl(plain, F_GETFD) == FD_CLOEXEC && fcntl(plain_too, F_GETFD) == 0);
  CHECK(write(reader, "x", 1) == -1 && errno == EBADF);
  expect_link(plain, "/memfd:plain name (deleted)");
  expect_link(quiet, "/memfd: (deleted)");
  CHECK(write(appender, "a", 1) == 1);
  char text[64] = "";
  ssize_t size = pread(reader, text, sizeof text, 0);
  if (size != 10 + (ssize_t)turn || memcmp(text, "0123456789a", 11) != 0) victim_fail("size %zd: %s", size, text);
}

static void check_seals(void) {
  CHECK(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
  CHECK(pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM);
  CHECK(strcmp(view, "sealed") == 0 && mprotect(view, PAGE, PROT_READ | PROT_WRITE) == -1);
  CHECK(fcntl(future, F_GET_SEALS) == F_SEAL_FUTURE_WRITE);
  CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED);
  CHECK(window[0] == (char)turn);
  char byte = 0;
  window[0] = (char)(turn + 1);
  CHECK(pread(future, &byte, 1, 0) == 1 && byte == (char)(turn + 1));
  CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL);
  if (has_exec_seals) {
    CHECK(fcntl(quiet, F_GET_SEALS) == F_SEAL_EXEC);
    CHECK(fchmod(quiet, 0700) == -1 && errno == EPERM);
    expect_mode(quiet, 0600, 7 * PAGE + 3);
  }
}

static void check(void) {
  check_descriptions();
  check_seals();
  expect_mode(plain, 0777, (off_t)(10 + turn));
  expect_mode(empty, 0640, 0);
  expect_mode(sparse, 0777, 1L << 40);
  CHECK(lseek(sparse, 0, SEEK_DATA) == 1L << 30 && lseek(sparse, 1L << 30, SEEK_HOLE) == (1L << 30) + (off_t)PAGE);
  char byte = 0;
  CHECK(pread(sparse, &byte, 1, (1L << 40) - 1) == 1 && byte == 9 && lseek(sparse, 0, SEEK_SET) == 0);
  CHECK(code() == (int)turn);
  set_code((uint32_t)(turn + 1));
  CHECK(code() == (int)turn + 1);
  CHECK(strcmp(constant, "constant") == 0 && mprotect(constant, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
  ++turn;
}

static void make_code(void) {
  int fd = make("jit", MFD_CLOEXEC);
  CHECK(ftruncate(fd, 4 * PAGE) == 0);
  code_writable = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
  code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, PAGE);
  CHECK(code_writable != MAP_FAILED && (void*)code != MAP_FAILED);
  close(fd);
  set_code(1);
}

static void make_sealed(void) {
  sealed = make("sealed", MFD_ALLOW_SEALING);
  CHECK(write(sealed, "sealed", 7) == 7 &&
        fcntl(sealed, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
  int read_only = reopen(sealed, O_RDONLY);
  view = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, read_only, 0);
  close(read_only);
  future = make("future", MFD_ALLOW_SEALING);
  CHECK(ftruncate(future, PAGE) == 0);
  window = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0);
  CHECK(view != MAP_FAILED && window != MAP_FAILED && fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
  window[0] = (char)turn;
  quiet = memfd_create("", MFD_NOEXEC_SEAL);
  has_exec_seals = quiet >= 0;
  if (!has_exec_seals) quiet = make("", 0);
  CHECK(ftruncate(quiet, 7 * PAGE + 3) == 0 && fchmod(quiet, 0600) == 0);
}

int main(void) {
  plain = make("plain name", MFD_CLOEXEC);
  CHECK(write(plain, "0123456789", 10) == 10 && lseek(plain, 5, SEEK_SET) == 5);
  plain_too = dup(plain);
  reader = reopen(plain, O_RDONLY);
  appender = reopen(plain, O_WRONLY | O_APPEND);
  CHECK(lseek(reader, 2, SEEK_SET) == 2);
  make_sealed();
  empty = make("empty", 0);
  CHECK(fchmod(empty, 0640) == 0);
  sparse = make("sparse", 0);
  CHECK(ftruncate(sparse, 1L << 40) == 0 && pwrite(sparse, "x", 1, 1L << 30) == 1 && pwrite(sparse, "\t", 1, (1L << 40) - 1) == 1);
  make_code();
  int fd = make("constant", 0);
  CHECK(write(fd, "constant", 9) == 9);
  int read_only = reopen(fd, O_RDONLY);
  constant = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, read_only, 0);
  CHECK(constant != MAP_FAILED);
  close(fd);
  close(read_only);
  victim_wait(check);
  if (victim_broken()) set_code(1000);
  check();
  victim_pass();
}
