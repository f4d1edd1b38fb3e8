// Children that have ended and were not waited for: one that leads the group of a living process, one that led a session, and two
// whose parent is told of their end by another signal than SIGCHLD, or by none (clone(2)). They are waited for by group and kind.
// And a group whose leader is no more.
#include "victim.h"

#include <linux/sched.h>
#include <sys/wait.h>

enum { kGroup, kSession, kSignal, kNone, kChildren };
static pid_t children[kChildren], member, left, gone;  // `left` is in the group of `gone`

static void end_as(int which) {
  if (which == kGroup) setpgid(0, 0);
  if (which == kSession) setsid();
  _exit(20 + which);
}

static void start(int which) {
  struct clone_args arguments = {.exit_signal = which == kSignal ? SIGURG : which == kNone ? 0 : SIGCHLD};
  children[which] = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (children[which] == 0) end_as(which);
  siginfo_t info;
  CHECK(children[which] > 0 && waitid(P_PID, (id_t)children[which], &info, WEXITED | WNOWAIT | __WALL) == 0);
}

static void verify(void) {
  siginfo_t info = {0};
  CHECK(getpgid(member) == children[kGroup] && kill(-children[kGroup], 0) == 0);
  CHECK(waitid(P_PGID, (id_t)children[kGroup], &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == children[kGroup]);
  CHECK(getpgid(children[kSession]) == children[kSession] && getsid(children[kSession]) == children[kSession]);
  CHECK(getpgid(left) == gone && kill(-gone, 0) == 0);
  for (int i = kSignal; i <= kNone; ++i) {
    CHECK(waitid(P_PID, (id_t)children[i], &info, WEXITED | WNOWAIT) == -1 && errno == ECHILD);
    CHECK(waitid(P_PID, (id_t)children[i], &info, WEXITED | WNOWAIT | __WCLONE) == 0 && info.si_status == 20 + i);
  }
}

int main(void) {
  for (int i = 0; i < kChildren; ++i) start(i);
  member = fork();
  if (member == 0) {
    for (;;) pause();
  }
  CHECK(member > 0 && setpgid(member, children[kGroup]) == 0);
  CHECK((gone = fork()) >= 0);
  if (gone == 0) {
    setpgid(0, 0);
    for (;;) pause();
  }
  setpgid(gone, gone);
  CHECK((left = fork()) >= 0);
  if (left == 0) {
    setpgid(0, gone);
    for (;;) pause();
  }
  CHECK(setpgid(left, gone) == 0 && kill(gone, SIGKILL) == 0 && waitpid(gone, NULL, 0) == gone);
  victim_wait(verify);
  if (victim_broken()) waitpid(children[kSession], NULL, 0);
  verify();
  int status;
  CHECK(kill(-gone, SIGTERM) == 0 && waitpid(-gone, &status, 0) == left && WTERMSIG(status) == SIGTERM);
  CHECK(kill(-children[kGroup], SIGTERM) == 0);
  CHECK(waitpid(member, &status, 0) == member && WTERMSIG(status) == SIGTERM);
  for (int i = 0; i < kChildren; ++i) CHECK(waitpid(children[i], &status, __WALL) == children[i] && WEXITSTATUS(status) == 20 + i);
  victim_pass();
}
