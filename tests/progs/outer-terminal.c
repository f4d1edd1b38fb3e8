// A job on a terminal that is another one after each restart: a full-screen program as the foreground group of the first process,
// which keeps it as a shell does. It notes what it is told, in the file `heard`: sizes (SIGWINCH), ^C, that it goes on after ^Z;
// the modes that it has set must be those of the terminal it is on, each time it looks.
#include "victim.h"

#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static volatile sig_atomic_t was_resized, was_interrupted, went_on;

static void on_signal(int number) {
  if (number == SIGWINCH) was_resized = 1;
  if (number == SIGINT) was_interrupted = 1;
  if (number == SIGCONT) went_on = 1;
}

static void hear(const char* format, ...) {
  char text[128];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  int fd = open(victim_path("heard"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && write(fd, text, (size_t)size) == size && close(fd) == 0);
}

static void look(void) {
  struct termios modes;
  CHECK(tcgetattr(STDIN_FILENO, &modes) == 0);
  if ((modes.c_lflag & (ICANON | ECHO)) != 0 || (modes.c_lflag & ISIG) == 0) victim_fail("the modes are %#x", modes.c_lflag);
  if (tcgetpgrp(STDIN_FILENO) != getpid()) victim_fail("the foreground group is %d", tcgetpgrp(STDIN_FILENO));
  int own = open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (own < 0) victim_fail("there is no terminal of the session: %s", strerror(errno));
  close(own);
}

static void set_modes(void) {
  struct termios modes;
  CHECK(tcgetattr(STDIN_FILENO, &modes) == 0);
  modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  CHECK(tcsetattr(STDIN_FILENO, TCSANOW, &modes) == 0);
}

static void tell(void) {
  struct winsize size;
  if (was_resized) {
    was_resized = 0;
    CHECK(ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0);
    hear("size %dx%d\n", size.ws_col, size.ws_row);
  }
  if (was_interrupted) hear("interrupted\n");
  if (went_on) {
    set_modes();  // as such programs do: a shell has had the terminal meanwhile
    hear("went on\n");
  }
  was_interrupted = went_on = 0;
}

__attribute__((noreturn)) static void be_full_screen(void) {
  setpgid(0, 0);
  while (tcgetpgrp(STDIN_FILENO) != getpid()) victim_sleep_ms(1);
  set_modes();
  for (int number = 1; number < NSIG; ++number) {
    if (number == SIGWINCH || number == SIGINT || number == SIGCONT) CHECK(signal(number, on_signal) != SIG_ERR);
  }
  hear("begun\n");
  while (!victim_exists("go")) {
    tell();
    if (victim_exists("look")) {
      look();
      CHECK(unlink(victim_path("look")) == 0);
    }
    victim_sleep_ms(2);
  }
  look();
  _exit(0);
}

int main(void) {
  CHECK(signal(SIGTTOU, SIG_IGN) != SIG_ERR);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) be_full_screen();
  setpgid(child, child);
  CHECK(tcsetpgrp(STDIN_FILENO, child) == 0);
  int status;
  // As a shell: told when it stops, and puts it into the foreground again.
  while (waitpid(child, &status, WUNTRACED) == child) {
    if (!WIFSTOPPED(status)) break;
    CHECK(tcsetpgrp(STDIN_FILENO, getpgrp()) == 0);
    hear("stopped\n");
    while (!victim_exists("fg")) victim_sleep_ms(2);
    CHECK(unlink(victim_path("fg")) == 0 && tcsetpgrp(STDIN_FILENO, child) == 0 && kill(child, SIGCONT) == 0);
  }
  if (status != 0) victim_fail("the program in the foreground ended with status %#x", status);
  victim_pass();
}
