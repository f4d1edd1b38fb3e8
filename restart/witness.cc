// kill(2) of a group signals all its members at one go, with the kernel's list of processes locked: when one of them runs, the
// others have it, or will have it within microseconds.
#include "restart/witness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace ckpt {

namespace {

constexpr useconds_t kDelivery = 2000;  // microseconds
constexpr int kAnswerMs = 200;          // it may have been stopped together with us, and not gone on

// Forgets what is pending whenever asked; ends with ckpt-restart.
[[noreturn]] void stand_by(int line) {
  prctl(PR_SET_NAME, "ckpt-witness");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t all;
  sigfillset(&all);
  const timespec now{0, 0};
  char byte = 0;
  while (read(line, &byte, 1) == 1) {
    while (sigtimedwait(&all, nullptr, &now) > 0) {
    }
    if (write(line, &byte, 1) != 1) break;
  }
  _exit(0);
}

// Readers of our pipes must not wait for it.
void close_all_but(int kept) {
  const long highest = sysconf(_SC_OPEN_MAX);
  if (kept > 0 && syscall(SYS_close_range, 0, kept - 1, 0) == 0 && syscall(SYS_close_range, kept + 1, ~0U, 0) == 0) return;
  for (int fd = 0; fd < highest; ++fd) {
    if (fd != kept) close(fd);
  }
}

}  // namespace

Witness::~Witness() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Witness::start() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return;
  line_ = Fd(pair[0]);
  const Fd there(pair[1]);
  sigset_t all;
  sigset_t old;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &old);
  pid_ = fork();
  if (pid_ == 0) {
    close_all_but(there.get());
    if (chdir("/") == 0) stand_by(there.get());
    _exit(0);
  }
  sigprocmask(SIG_SETMASK, &old, nullptr);
  // Opened now: later /proc may be that of the program's namespace.
  if (pid_ > 0) status_ = Fd(open(("/proc/" + std::to_string(pid_) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
}

bool Witness::is_pending(int signal) const {
  constexpr char kField[] = "\nShdPnd:\t";
  char text[4096];
  const ssize_t size = pread(status_.get(), text, sizeof(text) - 1, 0);
  if (size <= 0) return false;
  text[size] = '\0';
  const char* at = std::strstr(text, kField);
  return at != nullptr && (std::strtoull(at + sizeof(kField) - 1, nullptr, 16) >> (signal - 1) & 1) != 0;
}

void Witness::forget() {
  char byte = 0;
  pollfd polled{line_.get(), POLLIN, 0};
  if (send(line_.get(), &byte, 1, MSG_NOSIGNAL) != 1 || poll(&polled, 1, kAnswerMs) != 1) return;
  if (read(line_.get(), &byte, 1) != 1) status_.reset();  // it has ended
}

bool Witness::has_seen(int signal) {
  if (!status_.is_open()) return false;
  if (!is_pending(signal)) usleep(kDelivery);
  const bool has = is_pending(signal);
  if (has) forget();
  return has;
}

}  // namespace ckpt
