// A process whose only children have ended and were not waited for: they are told with their statuses afterwards.
#include "victim.h"

#include <sys/wait.h>

static pid_t exited, killed;

int main(void) {
  siginfo_t info;
  exited = fork();
  if (exited == 0) _exit(9);
  killed = fork();
  if (killed == 0) pause();
  CHECK(kill(killed, SIGTERM) == 0);
  CHECK(waitid(P_PID, (id_t)exited, &info, WEXITED | WNOWAIT) == 0);
  CHECK(waitid(P_PID, (id_t)killed, &info, WEXITED | WNOWAIT) == 0);
  victim_wait(NULL);
  int status;
  if (victim_broken()) waitpid(exited, NULL, 0);
  CHECK(waitpid(killed, &status, 0) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  CHECK(waitpid(-1, &status, 0) == exited && WIFEXITED(status) && WEXITSTATUS(status) == 9);
  CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
  const pid_t later = fork();
  if (later == 0) _exit(3);
  CHECK(waitpid(later, &status, 0) == later && WEXITSTATUS(status) == 3);
  victim_pass();
}
