// take-number NUMBER: a process with that number, which somebody else is waiting for. Prints its name and stays; root only.
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  pid_t number = atoi(argv[1]);
  struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1};
  const pid_t parent = getpid();
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) perror("clone3");
  if (pid < 0) return 1;
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) pause();
    _exit(0);
  }
  puts("taken");
  fflush(stdout);
  return waitpid(number, NULL, 0) == number ? 0 : 1;
}
