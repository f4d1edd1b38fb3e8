// By /proc and not by pidfds: these are newer than the oldest kernel, and say how a process ended to its parent alone.
#include "restart/watch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "lib/common/error.h"
#include "lib/common/signal-names.h"

namespace ckpt {

namespace {

struct State {
  bool has_ended;
  int status;  // −1: not known
};

// The fields of a stat file behind the second, the name, which may hold anything (proc_pid_stat(5)); empty: errno says why.
std::string fields_of(int stat) {
  char text[4096];
  const ssize_t size = pread(stat, text, sizeof(text) - 1, 0);
  if (size == 0) errno = ESRCH;
  if (size <= 0) return "";
  const std::string line(text, static_cast<std::size_t>(size));
  const std::size_t end_of_name = line.rfind(") ");
  if (end_of_name == std::string::npos) errno = EINVAL;
  return end_of_name == std::string::npos ? "" : line.substr(end_of_name + 2);
}

State read_state(int stat) {
  constexpr int kExitCode = 52;  // fields are counted from 1
  const std::string line = fields_of(stat);
  if (line.empty()) return {errno == ESRCH, -1};
  std::istringstream fields(line);
  std::string field;
  fields >> field;
  if (field != "Z" && field != "X") return {false, -1};
  for (int i = 3; i < kExitCode; ++i) fields >> field;
  const int status = std::atoi(field.c_str());
  return {true, status == 0 ? -1 : status};  // 0 is said as well where we may not know
}

}  // namespace

std::string describe_process(const format::ProcessRecord& process) {
  return "process " + std::to_string(process.pid) + " (" + mask(process.name) + ") of the job";
}

int status_of(const siginfo_t& info) {
  if (info.si_pid == 0) return -1;
  return info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
}

std::string describe_end(int status) {
  const std::string when = " before all were ready to run";
  if (status < 0) return "ended" + when;
  if (WIFSIGNALED(status)) return "was killed by " + signal_name(WTERMSIG(status)) + when;
  return "ended with status " + std::to_string(WEXITSTATUS(status)) + when;
}

Fd open_interrupts() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) {
    struct sigaction action {};
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) sigaddset(&set, signal);
  }
  return Fd(signalfd(-1, &set, SFD_CLOEXEC));
}

void fail_by_interrupt(int interrupts) {
  signalfd_siginfo info;
  if (read(interrupts, &info, sizeof(info)) != sizeof(info)) return;
  throw Error::plain("interrupted by " + signal_name(static_cast<int>(info.ssi_signo)), ExitCode::kRunner);
}

Watch::Watch() : proc_(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

void Watch::add(pid_t pid, std::string what) {
  Fd stat(openat(proc_.get(), (std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  const bool is_gone = !stat.is_open() && errno == ENOENT;
  watched_.push_back({pid, std::move(what), std::move(stat), is_gone});
}

std::string Watch::find_ended() const {
  for (const Watched& one : watched_) {
    const State state = one.stat.is_open() ? read_state(one.stat.get()) : State{one.is_gone, -1};
    if (state.has_ended) return one.what + " " + describe_end(state.status);
  }
  return "";
}

bool Watch::kill_all() const {
  bool had_any = false;
  for (const Watched& one : watched_) {
    if (one.stat.is_open() && !read_state(one.stat.get()).has_ended && kill(one.pid, SIGKILL) == 0) had_any = true;
  }
  return had_any;
}

pid_t Watch::parent_of(pid_t pid) const {
  const Fd stat(openat(proc_.get(), (std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  std::istringstream fields(fields_of(stat.get()));
  std::string state;
  pid_t parent = 0;
  fields >> state >> parent;
  return parent;
}

bool Watch::is_group_orphaned() const {
  const pid_t group = getpgrp();
  for (pid_t pid = getpid(); pid > 0 && getpgid(pid) == group;) {
    pid = parent_of(pid);
    if (pid > 0 && getpgid(pid) != group && getsid(pid) == getsid(0)) return false;
  }
  return true;
}

}  // namespace ckpt
