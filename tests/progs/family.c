// A family of processes: a child in its own group, one in its own session with a child of its own, an orphan, two zombies with their
// statuses; a pipe with unread bytes between parent and child, an offset shared by both, descriptors that differ in close-on-exec.
// Each member answers the first one over its pipe what it sees of itself; after a restart all must be as before, and the ends of the
// living ones must be told as ever.
#include "victim.h"

#include <sys/prctl.h>
#include <sys/wait.h>

enum { kMembers = 4 };  // plain, own group, own session, grandchild (through the third); the orphan has no pipe of ours

struct Self {
  pid_t pid, parent, group, session;
};

static struct Member {
  int ask[2], answer[2];
  pid_t pid;
  struct Self self;
} members[kMembers];

static pid_t first, zombies[2], orphan;
static int shared, mail[2];
static volatile sig_atomic_t children_ended;

static void on_child(int number) {
  (void)number;
  ++children_ended;
}

// The outer session has no number in the namespace of a restart: what counts is who is in the same one.
static struct Self look(void) {
  return (struct Self){getpid(), getppid(), getpgrp(), getsid(0) == getsid(first) ? -1 : getsid(0)};
}

static void serve(struct Member* member) {
  char order;
  while (read(member->ask[0], &order, 1) == 1) {
    if (order == 'q') _exit(40 + (int)(member - members));
    struct Self self = look();
    if (order == 's' && write(shared, "line\n", 5) != 5) _exit(99);
    if (write(member->answer[1], &self, sizeof self) != sizeof self) _exit(98);
  }
  _exit(97);
}

static void start(struct Member* member, void (*prepare)(void)) {
  member->pid = fork();
  CHECK(member->pid >= 0);
  if (member->pid == 0) {
    if (prepare != NULL) prepare();
    serve(member);
  }
}

static void own_group(void) { setpgid(0, 0); }
static void own_session(void) {
  setsid();
  if (fork() == 0) serve(&members[3]);
}

static struct Self ask(struct Member* member, char order) {
  struct Self self;
  CHECK(write(member->ask[1], &order, 1) == 1);
  if (read(member->answer[0], &self, sizeof self) != sizeof self) victim_fail("member %ld does not answer", (long)(member - members));
  return self;
}

static pid_t start_orphan(void) {
  int tell[2];
  pid_t pid = 0;
  CHECK(pipe(tell) == 0);
  pid_t middle = fork();
  if (middle == 0) {
    setsid();
    pid = fork();
    if (pid == 0) {
      close(tell[0]);
      close(tell[1]);
      for (;;) pause();
    }
    CHECK(write(tell[1], &pid, sizeof pid) == sizeof pid);
    _exit(0);
  }
  CHECK(read(tell[0], &pid, sizeof pid) == sizeof pid && waitpid(middle, NULL, 0) == middle);
  close(tell[0]);
  close(tell[1]);
  return pid;
}

static void verify(void) {
  for (int i = 0; i < kMembers; ++i) {
    struct Self now = ask(&members[i], 'a');
    const struct Self* old = &members[i].self;
    if (memcmp(&now, old, sizeof now) != 0) {
      victim_fail("member %d is %d %d %d %d, and was %d %d %d %d", i, now.pid, now.parent, now.group, now.session, old->pid,
                  old->parent, old->group, old->session);
    }
  }
  if (getpid() != first) victim_fail("the first process is another one");
  if (kill(orphan, 0) != 0) victim_fail("the orphan is gone");
  off_t before = lseek(shared, 0, SEEK_CUR);
  ask(&members[0], 's');
  if (lseek(shared, 0, SEEK_CUR) != before + 5) victim_fail("the offset is not shared any more");
  siginfo_t info;
  info.si_pid = 0;
  CHECK(waitid(P_PID, (id_t)zombies[0], &info, WEXITED | WNOWAIT) == 0 && info.si_pid == zombies[0] && info.si_status == 17);
  CHECK(waitid(P_PID, (id_t)zombies[1], &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_KILLED && info.si_status == SIGTERM);
  if (fcntl(mail[0], F_GETFD) != FD_CLOEXEC || fcntl(mail[1], F_GETFD) != 0) victim_fail("close-on-exec differs");
}

static void end_all(void) {
  char text[32] = "";
  CHECK(read(mail[0], text, sizeof text) == 12 && strcmp(text, "unread bytes") == 0);
  for (int i = 0; i < 3; ++i) {
    int status = 0, seen = children_ended;
    if (i == 2) CHECK(write(members[3].ask[1], "q", 1) == 1);
    CHECK(write(members[i].ask[1], "q", 1) == 1);
    CHECK(waitpid(members[i].pid, &status, 0) == members[i].pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 40 + i) victim_fail("member %d ended with status %#x", i, status);
    for (int turn = 0; children_ended == seen && turn < 1000; ++turn) victim_sleep_ms(2);
    if (children_ended == seen) victim_fail("no SIGCHLD for member %d", i);
  }
  int status = 0;
  CHECK(waitpid(zombies[0], &status, 0) == zombies[0] && WEXITSTATUS(status) == 17);
  CHECK(waitpid(zombies[1], &status, 0) == zombies[1] && WTERMSIG(status) == SIGTERM);
  CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
  CHECK(kill(orphan, SIGKILL) == 0);
}

int main(void) {
  first = getpid();
  shared = open(victim_path("shared"), O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(shared >= 0 && pipe(mail) == 0 && write(mail[1], "unread bytes", 12) == 12);
  CHECK(fcntl(mail[0], F_SETFD, FD_CLOEXEC) == 0);
  for (int i = 0; i < kMembers; ++i) CHECK(pipe(members[i].ask) == 0 && pipe(members[i].answer) == 0);
  start(&members[0], NULL);
  start(&members[1], own_group);
  start(&members[2], own_session);
  if ((zombies[0] = fork()) == 0) _exit(17);
  if ((zombies[1] = fork()) == 0) for (;;) pause();
  kill(zombies[1], SIGTERM);
  siginfo_t info;
  for (int i = 0; i < 2; ++i) CHECK(waitid(P_PID, (id_t)zombies[i], &info, WEXITED | WNOWAIT) == 0);
  orphan = start_orphan();
  signal(SIGCHLD, on_child);
  for (int i = 0; i < kMembers; ++i) members[i].self = ask(&members[i], 'a');
  victim_wait(verify);
  if (victim_broken()) waitpid(zombies[0], NULL, 0);
  verify();
  end_all();
  victim_pass();
}
