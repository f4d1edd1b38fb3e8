// epoll: made empty; filled when every descriptor has its number.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "lib/resources/epoll/record.h"
#include "lib/resources/files/rebuild.h"

namespace ckpt {

namespace {

using format::EpollEntry;
using format::EpollState;

// The number `fd` leads to `from` for a while, and then to what it led to before.
class LentNumber {
 public:
  LentNumber(int fd, int from) : fd_(fd), before_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
    if (dup2(from, fd) < 0) throw Error::from_errno("duplicate", "descriptor " + std::to_string(from), errno, ExitCode::kRunner);
  }
  ~LentNumber() {
    if (before_.is_open()) {
      dup2(before_.get(), fd_);
    } else {
      close(fd_);
    }
  }
  LentNumber(const LentNumber&) = delete;
  LentNumber& operator=(const LentNumber&) = delete;

 private:
  int fd_;
  Fd before_;
};

int control(int fd, int operation, const EpollEntry& entry, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = entry.data;
  return epoll_ctl(fd, operation, entry.fd, &event);
}

void add(int fd, const EpollEntry& entry, std::uint32_t events) {
  if (control(fd, EPOLL_CTL_ADD, entry, events) == 0) return;
  const std::string what = "descriptor " + std::to_string(entry.fd) + " by epoll descriptor " + std::to_string(fd);
  if (errno == EPERM) {
    throw Error::plain("cannot wait for " + what + ": it is a file now; give ckpt-restart a pipe or a terminal in its place",
                       ExitCode::kRunner);
  }
  throw Error::from_errno("wait for", what, errno, ExitCode::kRunner);
}

std::uint32_t take_event(int fd) {
  epoll_event event{};
  return epoll_wait(fd, &event, 1, 0) == 1 ? event.events : 0;
}

// A byte through the pipe lets its reading end fire.
bool fire_by_byte(int fd, const EpollEntry& entry) {
  struct stat status {};
  if (fstat(entry.fd, &status) != 0 || !S_ISFIFO(status.st_mode)) return false;
  const std::string path = "/proc/self/fd/" + std::to_string(entry.fd);
  const Fd both(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  char byte = 0;
  if (!both.is_open() || write(both.get(), &byte, 1) != 1) return false;
  const bool has_fired = take_event(fd) != 0;
  return read(both.get(), &byte, 1) == 1 && has_fired;
}

// A one-shot entry that has fired can't be added as such: it is added for everything, and fires now. What is not ready for anything
// (and then can't be a file, nor a pipe) keeps EPOLLERR and EPOLLHUP, which the kernel adds.
void add_fired(int fd, const EpollEntry& entry) {
  add(fd, entry, entry.events | EPOLLIN | EPOLLOUT | EPOLLPRI);
  if (take_event(fd) != 0 || fire_by_byte(fd, entry)) return;
  control(fd, EPOLL_CTL_MOD, entry, entry.events);
}

// An edge that was reported before the checkpoint is taken out again, unless there is more by now than there was then.
void add_reported(int fd, const EpollEntry& entry) {
  add(fd, entry, entry.events);
  if ((take_event(fd) & ~entry.consumed & 0xffff) == 0) return;
  if (control(fd, EPOLL_CTL_MOD, entry, entry.events) == 0) return;
  control(fd, EPOLL_CTL_DEL, entry, entry.events);  // EPOLLEXCLUSIVE can't be modified
  add(fd, entry, entry.events);
}

bool has_fired(const EpollEntry& entry) {
  return (entry.events & format::kEpollOneShot) != 0 && (entry.events & ~format::kEpollPrivate) == 0;
}

void add_entry(int fd, const EpollEntry& entry) {
  if (has_fired(entry)) return add_fired(fd, entry);
  if (entry.consumed != 0) return add_reported(fd, entry);
  add(fd, entry, entry.events);
}

int number_of(const RestartPlan& plan, std::uint32_t description) {
  for (const auto& entry : plan.process->descriptors) {
    if (entry.description == description) return entry.fd;
  }
  throw Error::plain("an epoll descriptor waits for open file " + std::to_string(description) + ", which has no descriptor",
                     ExitCode::kRunner);
}

std::vector<EpollEntry> entries_of(const Description& description) {
  std::vector<EpollEntry> entries((description.state.size() - sizeof(EpollState)) / sizeof(EpollEntry));
  if (!entries.empty()) {
    std::memcpy(entries.data(), description.state.data() + sizeof(EpollState), entries.size() * sizeof(EpollEntry));
  }
  return entries;
}

}  // namespace

int rebuild_epoll(const RestartPlan&, const Description& description) {
  const auto state = state_of<EpollState>(description);
  const int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) throw Error::from_errno("create", "an epoll descriptor", errno, ExitCode::kRunner);
  // An older kernel has no such parameters; without them it works as well.
  constexpr unsigned long kSetParameters = 0x40088a01;  // EPIOCSPARAMS
  if (state.busy_poll_us != 0 || state.busy_poll_budget != 0) ioctl(fd, kSetParameters, &state);
  return fd;
}

void finish_epoll(const RestartPlan& plan, const Description& description, int fd) {
  const std::vector<EpollEntry> entries = entries_of(description);
  // Those whose event is taken out come first, while no other's can be taken for it.
  for (const bool is_quiet : {true, false}) {
    for (const EpollEntry& entry : entries) {
      if ((has_fired(entry) || entry.consumed != 0) != is_quiet) continue;
      if (entry.description == 0) {
        add_entry(fd, entry);
      } else {
        const LentNumber number(entry.fd, number_of(plan, entry.description));
        add_entry(fd, entry);
      }
    }
  }
}

}  // namespace ckpt
