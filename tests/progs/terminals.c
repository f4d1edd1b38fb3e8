// Pseudo-terminals within a job: a child with a controlling terminal of its own, whose master its parent has; further pairs with
// lines, half a line, an end of file and output on their way, in canonical and in raw mode, in packet mode, with the slave closed.
// Numbers, settings, sizes, contents, controlling terminal and foreground group are as they were.
#include "victim.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static int controlled, lines, raw, packet, closed, unopened;
static int lines_slave, raw_slave, packet_slave;
static unsigned numbers[6];
static pid_t child;

static int open_master(unsigned* number) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  CHECK(master >= 0 && unlockpt(master) == 0 && ioctl(master, TIOCGPTN, number) == 0);
  return master;
}

static int open_slave(int master) {
  int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  CHECK(slave >= 0);
  return slave;
}

static void put(int fd, const char* text) { CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text)); }

// Waits for exactly this.
static void expect(const char* what, int fd, const char* text) {
  char buffer[512] = "";
  size_t have = 0;
  while (have < strlen(text)) {
    struct pollfd polled = {fd, POLLIN, 0};
    CHECK(poll(&polled, 1, 20000) == 1);
    ssize_t count = read(fd, buffer + have, sizeof buffer - 1 - have);
    if (count <= 0) victim_fail("%s: nothing after '%s' (%s)", what, buffer, strerror(errno));
    have += (size_t)count;
    buffer[have] = 0;
  }
  if (strcmp(buffer, text) != 0) victim_fail("%s: '%s' instead of '%s'", what, buffer, text);
}

static void expect_nothing(const char* what, int fd) {
  struct pollfd polled = {fd, POLLIN, 0};
  if (poll(&polled, 1, 30) != 0) victim_fail("%s: there is more", what);
}

static volatile sig_atomic_t interrupts;
static void on_interrupt(int signal) { interrupts += signal == SIGINT; }

// Answers each line with what it knows of its terminal.
static void be_child(void) {
  char line[256];
  struct sigaction action = {.sa_handler = on_interrupt};
  CHECK(setsid() == getpid());
  int slave = open_slave(controlled);
  CHECK(ioctl(slave, TIOCSCTTY, 0) == 0);
  close(controlled);
  sigaction(SIGINT, &action, NULL);
  dprintf(slave, "ready\n");
  for (;;) {
    ssize_t count = read(slave, line, sizeof line - 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) _exit(9);
    line[count] = 0;
    int tty = open("/dev/tty", O_RDWR);
    dprintf(slave, "%d %d %d %d %s", tty >= 0, tcgetpgrp(slave) == getpgrp(), tcgetsid(slave) == getpid(), (int)interrupts, line);
    close(tty);
    if (strcmp(line, "end\n") == 0) _exit(7);
  }
}

static void fill(void) {
  put(lines, "first\nsecond\n\004third");
  put(lines_slave, "out\n");
  put(raw, "a\004b\nc");
  put(raw_slave, "\001\377x");
  put(packet_slave, "p");
}

static void set_up(void) {
  struct termios settings;
  struct winsize size = {33, 77, 0, 0};
  lines = open_master(&numbers[1]);
  CHECK(tcgetattr(lines, &settings) == 0);
  settings.c_lflag &= ~(tcflag_t)ECHO;
  settings.c_cc[VERASE] = '#';
  CHECK(tcsetattr(lines, TCSANOW, &settings) == 0 && ioctl(lines, TIOCSWINSZ, &size) == 0);
  lines_slave = open_slave(lines);
  raw = open_master(&numbers[2]);
  CHECK(tcgetattr(raw, &settings) == 0);
  cfmakeraw(&settings);
  CHECK(tcsetattr(raw, TCSANOW, &settings) == 0);
  raw_slave = open_slave(raw);
  packet = open_master(&numbers[3]);
  int on = 1;
  CHECK(ioctl(packet, TIOCPKT, &on) == 0);
  packet_slave = open_slave(packet);
  closed = open_master(&numbers[4]);
  int slave = open_slave(closed);
  put(slave, "last words");
  close(slave);
  unopened = open_master(&numbers[5]);
  fill();
}

static void check_numbers(void) {
  int masters[6] = {controlled, lines, raw, packet, closed, unopened};
  for (int i = 0; i < 6; ++i) {
    unsigned number;
    CHECK(ioctl(masters[i], TIOCGPTN, &number) == 0);
    if (number != numbers[i]) victim_fail("pair %u is number %u now", numbers[i], number);
  }
  struct stat by_name, by_fd;
  CHECK(stat(ptsname(lines), &by_name) == 0 && fstat(lines_slave, &by_fd) == 0 && by_name.st_rdev == by_fd.st_rdev);
}

static void check_lines(void) {
  struct termios settings;
  struct winsize size;
  char line[64];
  CHECK(tcgetattr(lines_slave, &settings) == 0 && settings.c_cc[VERASE] == '#' && (settings.c_lflag & (ICANON | ECHO)) == ICANON);
  CHECK(ioctl(lines_slave, TIOCGWINSZ, &size) == 0 && size.ws_row == 33 && size.ws_col == 77);
  CHECK(read(lines_slave, line, sizeof line) == 6 && memcmp(line, "first\n", 6) == 0);
  CHECK(read(lines_slave, line, sizeof line) == 7 && memcmp(line, "second\n", 7) == 0);
  CHECK(read(lines_slave, line, sizeof line) == 0);
  expect_nothing("half a line", lines_slave);
  put(lines, "#D more\n");
  expect("the line that was being typed", lines_slave, "thirD more\n");
  expect("output", lines, "out\r\n");
  expect_nothing("echo", lines);
}

static void check(void) {
  char line[64];
  check_numbers();
  check_lines();
  expect("raw input", raw_slave, "a\004b\nc");
  expect("raw output", raw, "\001\377x");
  CHECK(read(packet, line, sizeof line) == 2 && line[0] == 0 && line[1] == 'p');
  static int words_read;
  if (!words_read) expect("of a closed slave", closed, "last words");
  words_read = 1;
  CHECK(read(closed, line, sizeof line) == -1 && errno == EIO);
  expect_nothing("of a slave that was never open", unopened);
  static int interrupts_sent;
  put(controlled, "\003");
  ++interrupts_sent;
  expect("^C", controlled, "^C");
  put(controlled, "hello\n");
  char answer[64];
  snprintf(answer, sizeof answer, "hello\r\n1 1 1 %d hello\r\n", interrupts_sent);
  expect("the child", controlled, answer);
  fill();
}

int main(void) {
  controlled = open_master(&numbers[0]);
  child = fork();
  if (child == 0) be_child();
  expect("the child", controlled, "ready\r\n");
  set_up();
  victim_wait(check);
  if (victim_broken()) put(raw, "y");
  check();
  put(controlled, "end\n");
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  victim_pass();
}
