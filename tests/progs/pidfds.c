// pidfds of the program itself and of a child that is gone.
#include "victim.h"

#include <poll.h>
#include <sys/wait.h>

static int own, gone;

static void check(void) {
  CHECK(syscall(SYS_pidfd_send_signal, own, 0, NULL, 0) == 0);
  struct pollfd entries[2] = {{own, POLLIN, 0}, {gone, POLLIN, 0}};
  CHECK(poll(entries, 2, 0) == 1 && entries[1].revents != 0);
  CHECK(syscall(SYS_pidfd_send_signal, gone, 0, NULL, 0) == -1 && errno == ESRCH);
  CHECK((fcntl(own, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(gone, F_GETFL) & O_NONBLOCK) == 0);
  CHECK(fcntl(own, F_GETFD) == 0 && fcntl(gone, F_GETFD) == FD_CLOEXEC);
}

int main(void) {
  CHECK((own = (int)syscall(SYS_pidfd_open, getpid(), O_NONBLOCK)) >= 0);
  CHECK(fcntl(own, F_SETFD, 0) == 0);
  pid_t child = fork();
  if (child == 0) _exit(0);
  CHECK((gone = (int)syscall(SYS_pidfd_open, child, 0)) >= 0 && waitpid(child, NULL, 0) == child);
  victim_wait(check);
  if (victim_broken()) close(gone), gone = (int)syscall(SYS_pidfd_open, getppid(), 0);
  check();
  victim_pass();
}
