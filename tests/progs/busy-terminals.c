// Pseudo-terminals as full as they get in either direction, and such whose output is stopped, by call (tcflow(3)) or by ^S: nothing
// is lost, what is stopped stays so, and goes on when it is let.
#include "victim.h"

#include <sys/ioctl.h>
#include <termios.h>

enum { kMost = 64 * 1024 };
static struct pair {
  int master, slave;
  size_t written;
} output, input, both, by_call, by_key;

static struct pair open_pair(int is_raw) {
  struct pair pair = {posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), -1, 0};
  struct termios settings;
  CHECK(pair.master >= 0 && unlockpt(pair.master) == 0);
  pair.slave = open(ptsname(pair.master), O_RDWR | O_NOCTTY | O_NONBLOCK);
  CHECK(pair.slave >= 0 && tcgetattr(pair.slave, &settings) == 0);
  if (is_raw) cfmakeraw(&settings);
  settings.c_lflag &= ~(tcflag_t)ECHO;
  CHECK(tcsetattr(pair.slave, TCSANOW, &settings) == 0);
  return pair;
}

static char byte_at(size_t position) { return (char)('a' + position * 7 % 26); }

// Until no more has gone in for a while: a worker of the kernel makes room a little later.
static size_t fill(int fd) {
  size_t written = 0;
  for (int pauses = 0; pauses < 20 && written < kMost;) {
    char byte = byte_at(written);
    if (write(fd, &byte, 1) == 1) {
      ++written;
      pauses = 0;
    } else {
      CHECK(errno == EAGAIN);
      ++pauses;
      victim_sleep_ms(1);
    }
  }
  CHECK(written > 8000);
  return written;
}

static void drain(const char* what, int fd, size_t expected) {
  size_t have = 0;
  for (int pauses = 0; pauses < 2000 && have < expected;) {
    char byte;
    if (read(fd, &byte, 1) == 1) {
      if (byte != byte_at(have)) victim_fail("%s: byte %zu is wrong", what, have);
      ++have;
    } else {
      ++pauses;
      victim_sleep_ms(1);
    }
  }
  if (have != expected) victim_fail("%s: %zu bytes instead of %zu", what, have, expected);
}

static void put(int fd, const char* text) { CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text)); }

// Waits until output is, or is not, stopped.
static void expect_stopped(const char* what, const struct pair* pair, int is_stopped) {
  for (int pauses = 0; pauses < 2000; ++pauses) {
    if ((write(pair->slave, "x", 1) < 0) == is_stopped) return;
    victim_sleep_ms(1);
  }
  victim_fail("%s: is%s stopped", what, is_stopped ? " not" : "");
}

static void set_up(void) {
  output.written = fill(output.slave);
  input.written = fill(input.master);
  both.written = fill(both.slave);
  CHECK(fill(both.master) > 8000);
  put(by_call.slave, "abc");
  CHECK(tcflow(by_call.slave, TCOOFF) == 0);
  put(by_key.slave, "abc");
  put(by_key.master, "typed\n\023");
  for (int pauses = 0; pauses < 2000 && write(by_key.slave, "", 0) == 0; ++pauses) {
    int room;
    if (ioctl(by_key.slave, FIONREAD, &room) == 0 && room == 6) break;
    victim_sleep_ms(1);
  }
  victim_sleep_ms(20);
}

static void expect_text(const char* what, int fd, const char* text) {
  char buffer[64] = "";
  for (size_t have = 0, pauses = 0; have < strlen(text) && pauses < 2000; ++pauses) {
    const ssize_t count = read(fd, buffer + have, strlen(text) - have);
    if (count > 0) have += (size_t)count;
    if (count <= 0) victim_sleep_ms(1);
  }
  if (strcmp(buffer, text) != 0) victim_fail("%s: '%s' instead of '%s'", what, buffer, text);
}

static void check_stopped(void) {
  char byte;
  expect_text("stopped by call", by_call.master, "abc");
  expect_stopped("by call", &by_call, 1);
  CHECK(read(by_call.master, &byte, 1) < 0 && errno == EAGAIN);
  CHECK(tcflow(by_call.slave, TCOON) == 0);
  expect_stopped("by call, let go", &by_call, 0);
  expect_text("let go by call", by_call.master, "x");

  expect_text("stopped by key", by_key.master, "abc");
  expect_stopped("by key", &by_key, 1);
  expect_text("typed", by_key.slave, "typed\n");
  put(by_key.master, "\021");
  expect_stopped("by key, let go", &by_key, 0);
  expect_text("let go by key", by_key.master, "x");
}

static void check(void) {
  drain("output", output.master, output.written);
  drain("input", input.slave, input.written);
  drain("both", both.master, both.written);
  CHECK(tcflush(both.slave, TCIFLUSH) == 0);
  check_stopped();
  set_up();
}

int main(void) {
  output = open_pair(1);
  input = open_pair(1);
  both = open_pair(1);
  by_call = open_pair(1);
  by_key = open_pair(0);
  set_up();
  victim_wait(check);
  if (victim_broken()) {
    char byte;
    CHECK(read(output.master, &byte, 1) == 1);
  }
  check();
  victim_pass();
}
