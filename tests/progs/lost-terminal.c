// A terminal that leads outside, open beside the standard streams: the controlling one, or, where there is none, one that has lost
// its other end. $VICTIM_DIR/lost, made by the harness, says that the former is to be like the latter.
#include "victim.h"

#include <poll.h>
#include <termios.h>

static int terminal, has_lost;

static void check(void) {
  struct termios settings;
  char byte = 0;
  CHECK((fcntl(terminal, F_GETFL) & O_ACCMODE) == O_RDWR && fcntl(terminal, F_GETFD) == 0);
  if (victim_exists("lost")) has_lost = 1;
  if (!has_lost) {
    CHECK(tcgetattr(terminal, &settings) == 0 && write(terminal, "here\n", 5) == 5);
    return;
  }
  CHECK(read(terminal, &byte, 1) == 0);
  CHECK(write(terminal, "x", 1) == -1 && errno == EIO);
  CHECK(tcgetattr(terminal, &settings) == -1 && errno == EIO);
  struct pollfd entry = {.fd = terminal, .events = POLLIN};
  CHECK(poll(&entry, 1, -1) == 1 && (entry.revents & POLLHUP) != 0);
  CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
}

static int make_lost(void) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  CHECK(slave >= 0 && close(master) == 0);
  return slave;
}

int main(void) {
  terminal = open("/dev/tty", O_RDWR);
  has_lost = terminal < 0;
  if (has_lost) terminal = make_lost();
  victim_wait(check);
  if (victim_broken()) close(terminal);
  check();
  victim_pass();
}
