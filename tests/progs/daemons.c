// Who looks after whom: a daemon that was forked twice and has a session of its own, a subreaper with orphans below it, a session
// whose leader is a zombie, a zombie in the midst of the tree. What begins before a restart goes on after it; and after it the same
// is begun anew, so that orphans made then find their subreaper as well.
#include "members.h"

#include <sys/prctl.h>

static struct Family { pid_t reaper, orphan, zombie, leader, survivor, daemon, led; } family;

static int told[2];

static void tell_pid(void) {
  pid_t pid = getpid();
  CHECK(write(told[1], &pid, sizeof pid) == sizeof pid);
}

static pid_t hear_pid(void) {
  pid_t pid;
  CHECK(read(told[0], &pid, sizeof pid) == sizeof pid);
  return pid;
}

// With no pipe open: the end of who failed must show.
__attribute__((noreturn)) static void live(void) {
  for (int fd = 3; fd < 64; ++fd) close(fd);
  for (;;) pause();
}

static void await_zombie(pid_t pid) {
  siginfo_t info;
  CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

// An orphan of the calling process, which is a subreaper, or of init: its parent has ended and was waited for.
static pid_t make_orphan(int has_session) {
  pid_t middle = fork();
  CHECK(middle >= 0);
  if (middle == 0) {
    if (has_session) setsid();
    if (fork() == 0) {
      while (getppid() == getpgrp() && has_session) victim_sleep_ms(1);
      tell_pid();
      live();
    }
    _exit(21);
  }
  int status;
  CHECK(waitpid(middle, &status, 0) == middle && WEXITSTATUS(status) == 21);
  return hear_pid();
}

// The leader of a session is a zombie; a process of that session is left.
static pid_t make_leaderless(pid_t* survivor) {
  pid_t leader = fork();
  CHECK(leader >= 0);
  if (leader == 0) {
    setsid();
    if (fork() == 0) {
      tell_pid();
      live();
    }
    _exit(22);
  }
  *survivor = hear_pid();
  await_zombie(leader);
  return leader;
}

static void expect(const char* what, long found, long wanted) {
  if (found != wanted) victim_fail("%s: %ld instead of %ld", what, found, wanted);
}

static long parent_of(pid_t pid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  CHECK(read_file(path, text, sizeof text) > 0);
  return atol(strrchr(text, ')') + 4);
}

static void end_child(pid_t pid) {
  int status;
  CHECK(kill(pid, SIGKILL) == 0);
  expect("the child that was killed", waitpid(pid, &status, 0), pid);
  expect("its signal", WTERMSIG(status), SIGKILL);
}

// --- in the subreaper ---

static void check_family(void) {
  expect("subreaper", getpid(), family.reaper);
  int is_reaper = 0;
  CHECK(prctl(PR_GET_CHILD_SUBREAPER, &is_reaper) == 0 && is_reaper == 1);
  expect("parent of the orphan", parent_of(family.orphan), family.reaper);
  expect("parent of the survivor", parent_of(family.survivor), family.reaper);
  expect("session of the survivor", getsid(family.survivor), family.leader);
  expect("group of the survivor", getpgid(family.survivor), family.leader);
  await_zombie(family.leader);
  await_zombie(family.zombie);
  pid_t anew = make_orphan(0);
  expect("parent of a new orphan", parent_of(anew), family.reaper);
  end_child(anew);
}

static void end_family(void) {
  int status;
  end_child(family.orphan);
  end_child(family.survivor);
  CHECK(waitpid(family.leader, &status, 0) == family.leader && WEXITSTATUS(status) == 22);
  CHECK(waitpid(family.zombie, &status, 0) == family.zombie && WEXITSTATUS(status) == 23);
  CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
}

static long obey(int order) {
  switch (order) {
    case 'b':
      CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
      family.reaper = getpid();
      family.orphan = make_orphan(1);
      if ((family.zombie = fork()) == 0) _exit(23);
      await_zombie(family.zombie);
      family.leader = make_leaderless(&family.survivor);
      return 0;
    case 'k':
      return waitpid(family.zombie, NULL, 0);
    case 'c':
      check_family();
      return 0;
  }
  end_family();
  return 0;
}

// --- the leader of a session whose member has lost its parent ---

static long lead(int order) {
  if (order != 'b') return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
  setsid();
  return make_orphan(0);
}

// --- the first process ---

static struct Member reaper, leader;

static void check(void) {
  member_do(&reaper, 'c');
  // Init, or a subreaper outside: never a process of ours.
  CHECK(kill(family.daemon, 0) == 0);
  expect("session of the daemon", getsid(family.daemon) != getsid(0) && getsid(family.daemon) != family.daemon, 1);
  if (parent_of(family.daemon) == getpid()) victim_fail("the daemon is a child of the first process");
  expect("session of who lost its parent", getsid(family.led), leader.pid);
  if (!member_do(&leader, 'c') || parent_of(family.led) == leader.pid) victim_fail("the leader has a child");
  pid_t anew = make_orphan(1);
  if (parent_of(anew) == getpid()) victim_fail("a new daemon is a child of the first process");
  CHECK(kill(anew, SIGKILL) == 0);
}

int main(void) {
  CHECK(pipe(told) == 0);
  family.daemon = make_orphan(1);
  reaper = member_start(obey);
  member_do(&reaper, 'b');
  leader = member_start(lead);
  family.led = (pid_t)member_do(&leader, 'b');
  victim_wait(check);
  if (victim_broken()) member_do(&reaper, 'k');
  check();
  member_do(&reaper, 'e');
  member_end(&reaper);
  member_end(&leader);
  CHECK(kill(family.led, SIGKILL) == 0 && kill(family.daemon, SIGKILL) == 0);
  CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  victim_pass();
}
