// What the signal does, it does in its handler: init may be at work for minutes, where process numbers have to be gone round.
#include "restart/init.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>

#include "lib/common/fd.h"

namespace ckpt {

namespace {

// What the handler needs; those that are forked have it too, and do not ask.
struct Init {
  pid_t pid;
  bool has_namespace;
  char control_path[PATH_MAX];
  dev_t device;
  ino_t inode;
};

constinit Init g_init{};

// Another restart may have made one of that name by now.
void remove_control() {
  struct stat status {};
  if (lstat(g_init.control_path, &status) != 0 || status.st_dev != g_init.device || status.st_ino != g_init.inode) return;
  unlink(g_init.control_path);
}

// Those that did not fit are found the next time.
void kill_children() {
  char text[4096];
  const int file = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  const ssize_t size = file < 0 ? -1 : read(file, text, sizeof(text));
  close(file);
  pid_t child = 0;
  for (ssize_t i = 0; i < size; ++i) {
    if (text[i] >= '0' && text[i] <= '9') {
      child = child * 10 + (text[i] - '0');
    } else {
      if (child > 1) kill(child, SIGKILL);
      child = 0;
    }
  }
}

// All processes of a namespace end with its init. Calls nothing that a signal handler may not.
[[noreturn]] void end_all() {
  remove_control();
  while (!g_init.has_namespace) {
    kill_children();
    if (waitpid(-1, nullptr, __WALL) < 0 && errno == ECHILD) break;  // theirs have become ours
  }
  _exit(0);
}

void handle_end(int) {
  if (getpid() == g_init.pid) end_all();
}

// False: no children are left.
bool reap(int events, pid_t program) {
  for (;;) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED);
    if (pid == 0) return true;
    if (pid < 0) return errno != ECHILD;
    if (pid == program) tell(events, status);
  }
}

}  // namespace

bool has_lost(int leash) {
  pollfd polled{leash, 0, 0};
  return poll(&polled, 1, 0) > 0;
}

int end_signal() { return SIGRTMAX; }  // nobody sends it by habit

void end_with_restart(bool has_namespace, const std::string& control_path, int leash) {
  g_init.pid = getpid();
  g_init.has_namespace = has_namespace;
  std::snprintf(g_init.control_path, sizeof(g_init.control_path), "%s", control_path.c_str());
  struct stat status {};
  if (stat(control_path.c_str(), &status) == 0) {
    g_init.device = status.st_dev;
    g_init.inode = status.st_ino;
  }
  struct sigaction action {};
  action.sa_handler = handle_end;
  action.sa_flags = SA_RESTART;
  sigaction(end_signal(), &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, end_signal());
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  if (!has_namespace) prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, end_signal());
  if (has_lost(leash)) end_all();  // it was dead before that
}

[[noreturn]] void be_init(const Channels& channels, pid_t program) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  const Fd children(signalfd(-1, &set, SFD_CLOEXEC));
  bool is_free = false;
  for (;;) {
    pollfd polled[2] = {{children.get(), POLLIN, 0}, {is_free ? -1 : channels.leash_there.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) continue;
    signalfd_siginfo info;
    if ((polled[0].revents & POLLIN) != 0 && read(children.get(), &info, sizeof(info)) < 0) continue;
    char byte = 0;
    if (polled[1].revents != 0) {
      if (read(channels.leash_there.get(), &byte, 1) != 1) end_all();  // ckpt-restart is dead
      prctl(PR_SET_PDEATHSIG, 0);
      is_free = true;
      if (write(channels.leash_there.get(), "", 1) != 1) _exit(0);
    }
    if (!reap(channels.events_there.get(), program) && is_free) _exit(0);
  }
}

[[noreturn]] void be_stand_in(int events, pid_t program) {
  for (;;) {
    int status = 0;
    if (waitpid(program, &status, WUNTRACED | WCONTINUED) < 0) {
      if (errno == EINTR) continue;
      _exit(0);
    }
    tell(events, status);
    if (WIFEXITED(status) || WIFSIGNALED(status)) _exit(0);
  }
}

}  // namespace ckpt
