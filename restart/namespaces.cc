// The order is the kernel's: the id maps right after the user namespace, clock offsets before the first child of the time namespace
// (user_namespaces(7), time_namespaces(7)).
#include "restart/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/fd.h"

namespace ckpt {

namespace {

constexpr long kMessageQueues = 0x19800202;  // no header of libc has it

void write_file(const std::string& path, const std::string& text) {
  const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.is_open() || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw Error::from_errno("write", path, errno, ExitCode::kRunner);
  }
}

std::int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

// Nanoseconds that the current time namespace already adds; offsets are counted from the host's clock.
std::int64_t current_offset(const std::string& clock) {
  std::ifstream file("/proc/self/timens_offsets");
  std::string name;
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  while (file >> name >> seconds >> nanoseconds) {
    if (name == clock) return seconds * 1'000'000'000LL + nanoseconds;
  }
  return 0;
}

std::string offset_line(const std::string& name, std::int64_t offset) {
  std::int64_t seconds = offset / 1'000'000'000;
  std::int64_t nanoseconds = offset % 1'000'000'000;
  if (nanoseconds < 0) nanoseconds += 1'000'000'000, --seconds;
  return name + " " + std::to_string(seconds) + " " + std::to_string(nanoseconds) + "\n";
}

void set_clocks(const format::ClocksRecord& clocks, std::int64_t monotonic_before, std::int64_t boottime_before) {
  const std::int64_t monotonic = clocks.monotonic_ns - now_ns(CLOCK_MONOTONIC) + monotonic_before;
  const std::int64_t boottime = clocks.boottime_ns - now_ns(CLOCK_BOOTTIME) + boottime_before;
  write_file("/proc/self/timens_offsets", offset_line("monotonic", monotonic) + offset_line("boottime", boottime));
}

// Of /proc/sys; empty: this kernel has none of that name.
std::string read_setting(const std::string& name) {
  std::string text;
  std::getline(std::ifstream("/proc/sys/" + name), text, '\0');
  return text;
}

}  // namespace

Namespaces enter_mount_namespace() {
  Namespaces result;
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWNS) == 0) return result;
  if (unshare(CLONE_NEWUSER) != 0) throw Error::from_errno("restart", "without a user namespace", errno, ExitCode::kRunner);
  result.has_user = true;
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", std::to_string(uid) + " " + std::to_string(uid) + " 1");
  write_file("/proc/self/gid_map", std::to_string(gid) + " " + std::to_string(gid) + " 1");
  if (unshare(CLONE_NEWNS) != 0) throw Error::from_errno("restart", "without a mount namespace", errno, ExitCode::kRunner);
  return result;
}

void enter_child_namespaces(const format::ClocksRecord& clocks) {
  const std::int64_t monotonic_before = current_offset("monotonic");
  const std::int64_t boottime_before = current_offset("boottime");
  if (unshare(CLONE_NEWPID | CLONE_NEWTIME) != 0)
    throw Error::from_errno("restart", "without pid and time namespaces", errno, ExitCode::kRunner);
  set_clocks(clocks, monotonic_before, boottime_before);
}

std::uint64_t enter_ipc_namespace() {
  constexpr const char* kLimits[] = {"kernel/shmmax",         "kernel/shmall",       "kernel/shmmni", "kernel/msgmax",
                                     "kernel/msgmnb",         "kernel/msgmni",       "kernel/sem",    "fs/mqueue/msg_max",
                                     "fs/mqueue/msgsize_max", "fs/mqueue/queues_max"};
  std::vector<std::string> limits;
  for (const char* name : kLimits) limits.push_back(read_setting(name));
  if (unshare(CLONE_NEWIPC) != 0) throw Error::from_errno("restart", "without an IPC namespace", errno, ExitCode::kRunner);
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const std::string path = std::string("/proc/sys/") + kLimits[i];
    if (read_setting(kLimits[i]) == limits[i]) continue;
    const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    // An ordinary user may not: the kernel's own limits hold then.
    if (fd.is_open() && write(fd.get(), limits[i].data(), limits[i].size()) < 0) continue;
  }
  struct stat status {};
  return stat("/proc/self/ns/ipc", &status) == 0 ? status.st_ino : 0;
}

void mount_message_queues() {
  constexpr const char* kFolder = "/dev/mqueue";
  struct statfs status {};
  if (statfs(kFolder, &status) != 0 || status.f_type != kMessageQueues) return;
  mount("mqueue", kFolder, "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

void mount_proc() {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return;
  mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

}  // namespace ckpt
