// One function a check. The kernel is asked by using what it is asked for: a version number says little of a container.
#include "lib/common/machine-checks.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <optional>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/common/units.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kLittleSpace = 1ULL << 30;
constexpr std::uint64_t kArenaSize = 256ULL << 20;  // lib/runtime/checkpoint.cc

// The first number of a file; nothing if there is none ("max").
std::optional<std::uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// linux/fs.h of 6.7; older headers do not have it.
struct ScanArguments {
  std::uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
  std::uint64_t category_inverted, category_mask, category_any, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);

Finding check_pagemap(const CheckSubject&) {
  const Fd fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!fd.is_open())
    return {"pagemap-scan", State::kMissing, "/proc/self/pagemap: " + describe_errno(errno), "mount /proc where programs run"};
  const std::uint64_t page = reinterpret_cast<std::uint64_t>(&kPagemapScan) & ~std::uint64_t{4095};
  std::uint64_t region[3];
  ScanArguments arguments{};
  arguments.size = sizeof arguments;
  arguments.start = page;
  arguments.end = page + 4096;
  arguments.regions = reinterpret_cast<std::uint64_t>(region);
  arguments.region_count = 1;
  arguments.category_any = arguments.return_mask = 1U << 3;  // present
  if (ioctl(fd.get(), kPagemapScan, &arguments) >= 0) return {"pagemap-scan", State::kOk, "there", ""};
  return {"pagemap-scan", State::kDegraded, describe_errno(errno) + ": large memory takes longer to look through", "Linux 6.7"};
}

Finding check_userfaultfd(const CheckSubject&) {
  const Fd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
  if (fd.is_open()) return {"userfaultfd", State::kOk, "there", ""};
  return {"userfaultfd", State::kDegraded, describe_errno(errno) + ": this version does without",
          "Linux 5.11; in a container a seccomp profile that allows it"};
}

Finding check_kcmp(const CheckSubject&) {
  if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0) == 0) return {"kcmp", State::kOk, "there", ""};
  return {"kcmp", State::kDegraded,
          describe_errno(errno) + ": whether descriptors share an open file is told by its offset and flags alone",
          "CONFIG_KCMP; in a container a seccomp profile that allows it"};
}

Finding check_ptrace(const CheckSubject&) {
  const auto scope = read_number("/proc/sys/kernel/yama/ptrace_scope").value_or(0);
  const std::string detail = "ptrace_scope " + std::to_string(scope);
  if (scope == 0 || (scope < 3 && geteuid() == 0)) return {"ptrace-scope", State::kOk, detail, ""};
  return {"ptrace-scope", State::kDegraded,
          detail + ": ckpt-trigger can't see which call a thread waits in, and one it interrupts may fail with EINTR",
          "sysctl kernel.yama.ptrace_scope=0, or save by kill -USR2"};
}

// The store, or the folder in which it would be made.
std::string existing_part(std::string path) {
  while (path.size() > 1 && access(path.c_str(), F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
    path.resize(std::max<std::size_t>(path.rfind('/'), 1));
  }
  return path;
}

Finding check_store(const CheckSubject& subject) {
  constexpr char kRemedy[] = "name a folder of your own with CKPT_DIR or --dir";
  const std::string folder = existing_part(subject.store);
  struct stat status {};
  if (stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode))
    return {kStoreCheck, State::kMissing, quote(folder) + " is no folder", kRemedy};
  if (faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    return {kStoreCheck, State::kMissing, quote(folder) + ": " + describe_errno(errno), kRemedy};
  const bool is_new = folder.size() < subject.store.size();
  return {kStoreCheck, State::kOk, quote(subject.store) + (is_new ? " will be made" : " can be written"), ""};
}

Finding check_space(const CheckSubject& subject) {
  constexpr char kRemedy[] = "remove old images (ckpt-ls), keep fewer (ckpt-launch --keep), or compress (-z)";
  const std::string folder = existing_part(subject.store);
  struct statvfs status {};
  if (statvfs(folder.c_str(), &status) != 0)
    return {"space", State::kDegraded, quote(folder) + ": " + describe_errno(errno), "name another folder with CKPT_DIR"};
  const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
  const std::uint64_t needed = subject.memory != 0 ? subject.memory : kLittleSpace;
  std::string detail = format_size(free) + " free in " + quote(folder);
  if (subject.memory != 0) detail += ", an image takes at most about " + format_size(needed);
  if (free < needed) return {"space", State::kDegraded, detail, kRemedy};
  return {"space", State::kOk, detail, ""};
}

Finding check_address_space(const CheckSubject& subject) {
  rlimit limit{};
  if (prlimit(subject.process, RLIMIT_AS, nullptr, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return {"address-space", State::kOk, "no limit", ""};
  const std::string detail = "limited to " + format_size(limit.rlim_cur);
  return {"address-space", State::kDegraded, detail + ": a checkpoint wants " + format_size(kArenaSize) + " of it for a moment",
          "ulimit -v unlimited, or leave that much room"};
}

// The tightest one of our control group and those above it: what is left, and the file that says so.
std::optional<std::pair<std::uint64_t, std::string>> memory_left(pid_t process) {
  std::ifstream file("/proc/" + (process != 0 ? std::to_string(process) : std::string("self")) + "/cgroup");
  std::string group;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) group = line.substr(3);
  }
  std::optional<std::pair<std::uint64_t, std::string>> least;
  for (; !group.empty(); group.resize(group.rfind('/'))) {
    const std::string folder = "/sys/fs/cgroup" + group;
    const auto most = read_number(folder + "/memory.max");
    const auto now = read_number(folder + "/memory.current");
    if (!most || !now) continue;
    const std::uint64_t left = *most > *now ? *most - *now : 0;
    if (!least || left < least->first) least = {left, folder + "/memory.max"};
  }
  return least;
}

Finding check_memory(const CheckSubject& subject) {
  constexpr char kRemedy[] = "raise the limit, or save while the program writes little memory";
  if (read_number("/proc/sys/vm/overcommit_memory") == 2)
    return {"memory", State::kDegraded, "memory is not overcommitted: the fork that saves a large program may be refused",
            "sysctl vm.overcommit_memory=0, or more swap"};
  const auto left = memory_left(subject.process);
  if (!left) return {"memory", State::kOk, "no limit of a control group", ""};
  const std::string detail = format_size(left->first) + " left below " + quote(left->second);
  if (left->first >= std::max<std::uint64_t>(subject.memory, 64U << 20)) return {"memory", State::kOk, detail, ""};
  return {"memory", State::kDegraded, detail + ": what the program changes while it is saved is there twice", kRemedy};
}

}  // namespace

std::vector<Finding> check_machine(const CheckSubject& subject) {
  std::vector<Finding> findings;
  for (const auto check :
       {check_store, check_space, check_address_space, check_memory, check_pagemap, check_userfaultfd, check_kcmp, check_ptrace}) {
    findings.push_back(check(subject));
  }
  return findings;
}

}  // namespace ckpt
