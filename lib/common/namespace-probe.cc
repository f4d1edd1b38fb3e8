// The child writes the outcome of each step into memory that it shares with us. It ends at the first step that the next ones need.
#include "lib/common/namespace-probe.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>

#include "lib/common/error.h"
#include "lib/common/fd.h"

namespace ckpt {
namespace {

enum Step : std::size_t { kUser, kPid, kMount, kTime, kSetTid, kProc, kSteps };

constexpr int kNotReached = -1;
constexpr int kNotNeeded = -2;
constexpr pid_t kChosenPid = 4242;  // free in a namespace that has been made just now

using Outcomes = std::array<int, kSteps>;  // 0, an errno value, or one of the above

struct Description {
  const char* check;
  State failed;  // what a failure means
  const char* without;
  const char* remedy;
};

constexpr std::array<Description, kSteps> kDescriptions{{
    {"user-namespace", State::kMissing, "this user restarts with limits, see ckpt-limits(7)",
     "allow it (kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns; in a "
     "container its seccomp profile), or restart as root"},
    {"pid-namespace", State::kMissing, "restarts have limits, see ckpt-limits(7)", "raise user.max_pid_namespaces"},
    {"mount-namespace", State::kMissing, "restarts have limits, see ckpt-limits(7)", "raise user.max_mnt_namespaces"},
    {"time-namespace", State::kMissing, "restarts have limits, see ckpt-limits(7), and monotonic clocks go on in between",
     "a kernel with CONFIG_TIME_NS (Linux 5.6); raise user.max_time_namespaces"},
    {"clone3-set-tid", State::kMissing, "restarts have limits, see ckpt-limits(7)",
     "Linux 5.5; in a container a seccomp profile that allows clone3"},
    {"proc-mount", State::kDegraded, "a restarted program sees the process ids of outside in /proc",
     "in a container, leave /proc unmasked (docker run --security-opt systempaths=unconfined)"},
}};

int error_of(bool has_succeeded) { return has_succeeded ? 0 : errno; }

int write_file(const char* path, const std::string& text) {
  const Fd fd(open(path, O_WRONLY | O_CLOEXEC));
  return error_of(fd.is_open() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

int enter_user_namespace() {
  const std::string user = std::to_string(geteuid());
  const std::string group = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER) != 0) return errno;
  for (const auto& [path, text] : {std::pair<const char*, std::string>{"/proc/self/setgroups", "deny"},
                                   {"/proc/self/uid_map", user + " " + user + " 1"},
                                   {"/proc/self/gid_map", group + " " + group + " 1"}}) {
    if (const int error = write_file(path, text); error != 0) return error;
  }
  return 0;
}

// In the first process of the pid namespace.
[[noreturn]] void try_inside(Outcomes& outcomes) {
  const pid_t chosen = kChosenPid;
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&chosen);
  arguments.set_tid_size = 1;
  const long child = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) _exit(0);
  outcomes[kSetTid] = child < 0 ? errno : child == chosen ? 0 : ESRCH;
  outcomes[kProc] = error_of(mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0 &&
                             mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0);
  _exit(0);
}

[[noreturn]] void try_all(Outcomes& outcomes) {
  constexpr int kFlags[] = {CLONE_NEWPID, CLONE_NEWNS, CLONE_NEWTIME};
  outcomes[kUser] = kNotNeeded;
  if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME) == 0) {
    outcomes[kPid] = outcomes[kMount] = outcomes[kTime] = 0;
  } else {
    outcomes[kUser] = enter_user_namespace();
    if (outcomes[kUser] != 0) _exit(0);
    for (std::size_t i = 0; i < std::size(kFlags); ++i) outcomes[kPid + i] = error_of(unshare(kFlags[i]) == 0);
  }
  // Before the first child of the time namespace (time_namespaces(7)).
  if (outcomes[kTime] == 0) outcomes[kTime] = write_file("/proc/self/timens_offsets", "monotonic 1 0\nboottime 1 0\n");
  if (outcomes[kPid] != 0 || outcomes[kMount] != 0) _exit(0);
  const pid_t child = fork();
  if (child == 0) try_inside(outcomes);
  waitpid(child, nullptr, 0);
  _exit(0);
}

Finding describe(const Description& description, int outcome) {
  if (outcome == 0) return {description.check, State::kOk, "allowed", ""};
  if (outcome == kNotNeeded) return {description.check, State::kOk, "not needed: this user may make the others without", ""};
  if (outcome == kNotReached)
    return {description.check, description.failed,
            "cannot be tried, for what is missing above: " + std::string(description.without), "see above"};
  return {description.check, description.failed, describe_errno(outcome) + ": " + description.without, description.remedy};
}

}  // namespace

std::vector<Finding> check_namespaces() {
  const Mapping shared(mmap(nullptr, sizeof(Outcomes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
                       sizeof(Outcomes));
  if (shared.get() == MAP_FAILED) throw Error::from_errno("try", "namespaces", errno);
  auto& outcomes = *static_cast<Outcomes*>(shared.get());
  outcomes.fill(kNotReached);
  const pid_t child = fork();
  if (child < 0) throw Error::from_errno("create", "a process", errno);
  if (child == 0) try_all(outcomes);
  waitpid(child, nullptr, 0);
  std::vector<Finding> findings;
  for (std::size_t i = 0; i < kSteps; ++i) findings.push_back(describe(kDescriptions[i], outcomes[i]));
  return findings;
}

}  // namespace ckpt
