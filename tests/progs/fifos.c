// Named pipes within the program: both ends with bytes in between, one end for both, a reader whose writer is gone, and a reader that
// waits for its first writer. And O_TMPFILE: a file without a name that gets one in the end.
#include "victim.h"

#include <poll.h>

static int reader, writer, both, ended, expecting, nameless;

static int make(const char* name, int flags) {
  if (!victim_exists(name)) CHECK(mkfifo(victim_path(name), 0600) == 0);
  int fd = open(victim_path(name), flags | O_NONBLOCK);
  CHECK(fd >= 0);
  return fd;
}

static short events_of(int fd) {
  struct pollfd entry = {fd, POLLIN | POLLOUT, 0};
  CHECK(poll(&entry, 1, 0) >= 0);
  return entry.revents;
}

static void pass(int from, int to, const char* text, const char* next) {
  char got[32] = "";
  CHECK(read(from, got, sizeof got) == (ssize_t)strlen(text) && strcmp(got, text) == 0);
  CHECK(write(to, next, strlen(next)) == (ssize_t)strlen(next));
}

static void check(void) {
  char byte;
  pass(reader, writer, "between", "between");
  pass(both, both, "itself", "itself");
  CHECK(events_of(ended) == (POLLIN | POLLHUP) || events_of(ended) == POLLHUP);
  CHECK(events_of(expecting) == 0);
  CHECK(read(expecting, &byte, 1) == 0);
  CHECK((fcntl(reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == O_RDONLY);
  CHECK((fcntl(writer, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (O_WRONLY | O_NONBLOCK));
  CHECK(fcntl(writer, F_GETPIPE_SZ) == 131072);
  CHECK(pread(nameless, &byte, 1, 4) == 1 && byte == 'l');
}

int main(void) {
  char path[64], got[8];
  reader = make("two", O_RDONLY);
  writer = make("two", O_WRONLY);
  CHECK(fcntl(reader, F_SETFL, 0) == 0 && fcntl(writer, F_SETPIPE_SZ, 131072) == 131072);
  both = make("one", O_RDWR);
  ended = make("ended", O_RDONLY);
  int gone = make("ended", O_WRONLY);
  CHECK(write(gone, "last", 4) == 4 && close(gone) == 0);
  expecting = make("expecting", O_RDONLY);
  CHECK(write(writer, "between", 7) == 7 && write(both, "itself", 6) == 6);
  CHECK((nameless = open(getenv("VICTIM_DIR"), O_TMPFILE | O_RDWR, 0640)) >= 0 && write(nameless, "nameless", 8) == 8);
  victim_wait(check);
  if (victim_broken()) CHECK(write(writer, "x", 1) == 1);
  check();
  CHECK(read(ended, got, 8) == 4 && memcmp(got, "last", 4) == 0 && read(ended, got, 8) == 0);
  int late = make("expecting", O_WRONLY);
  CHECK(write(late, "first", 5) == 5 && read(expecting, got, 8) == 5);
  snprintf(path, sizeof path, "/proc/self/fd/%d", nameless);
  CHECK(linkat(AT_FDCWD, path, AT_FDCWD, victim_path("named"), AT_SYMLINK_FOLLOW) == 0);
  struct stat status;
  CHECK(stat(victim_path("named"), &status) == 0 && status.st_size == 8 && (status.st_mode & 0777) == 0640);
  victim_pass();
}
