// take-number NUMBER: a process with that number, which somebody else is waiting for. Says "taken" and stays; root only. Who has it
// for the moment is waited for; who keeps it will do as well.
#include <errno.h>
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
  long pid = -1;
  for (int i = 0; i < 200 && (pid = syscall(SYS_clone3, &arguments, sizeof arguments)) < 0 && errno == EEXIST; ++i) usleep(10000);
  if (pid < 0 && errno != EEXIST) perror("clone3");
  if (pid < 0 && errno != EEXIST) return 1;
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) pause();
    _exit(0);
  }
  puts("taken");
  fflush(stdout);
  if (pid < 0) pause();
  return waitpid(number, NULL, 0) == number ? 0 : 1;
}
