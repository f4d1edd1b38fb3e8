// See helper.h. What lib/runtime/writer-commit.cc does by paths is done below open folders here, for the program must not lead us.
#include "lib/common/helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "lib/common/proc.h"
#include "lib/common/store.h"

namespace ckpt {
namespace {

constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// Nobody but us may change what is in it.
bool is_ours_alone(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && status.st_uid == geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

std::string name_generation(unsigned generation) {
  char name[32];
  std::snprintf(name, sizeof name, "%06u%s", generation, kImageSuffix);
  return name;
}

// NNNNNN of the images in a folder.
std::vector<unsigned> list_generations(int folder) {
  std::vector<unsigned> found;
  const int again = openat(folder, ".", kFolderFlags);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(again >= 0 ? fdopendir(again) : nullptr, closedir);
  while (const dirent* entry = entries ? readdir(entries.get()) : nullptr) {
    unsigned generation = 0;
    if (std::sscanf(entry->d_name, "%u", &generation) == 1 && name_generation(generation) == entry->d_name)
      found.push_back(generation);
  }
  return found;
}

// A process that can become root again is no less than root; else the effective user.
uid_t find_author(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    unsigned real = 0, effective = 0, saved = 0;
    if (std::sscanf(line.c_str(), "Uid: %u %u %u", &real, &effective, &saved) != 3) continue;
    return real == 0 || saved == 0 ? 0 : effective;
  }
  return static_cast<uid_t>(-1);
}

}  // namespace

Helper::Helper(Control& control, pid_t pid, std::string file) : control_(control), pid_(pid), file_(std::move(file)) {
  const auto status = read_status(pid);
  // A file that ckpt-launch -o has named the program may have renamed since.
  const bool is_named = !file_.empty() || control.page().settings.file[0] == '\0';
  may_help_ = geteuid() == 0 && status && status->uid != 0 && is_named && open_store();
}

Helper::~Helper() {
  if (image_.is_open() && committed_.empty()) unlinkat(folder_.get(), temporary_.c_str(), 0);
}

// <store>/run/<job>.ckpt-control, and that is what we have mapped.
bool Helper::open_store() {
  const std::string& path = control_.path();
  const auto slash = path.rfind('/');
  const std::string suffix = std::string("/") + kRunFolder;
  if (slash == path.npos || !path.substr(0, slash).ends_with(suffix)) return false;
  const std::string store = path.substr(0, slash - suffix.size());
  const std::string name = path.substr(slash + 1);
  job_ = name.substr(0, name.size() - std::strlen(format::kControlSuffix));
  store_ = Fd(open(store.c_str(), kFolderFlags));
  const Fd run(openat(store_.get(), kRunFolder, kFolderFlags));
  struct stat status {};
  if (!store_.is_open() || !run.is_open() || !is_ours_alone(store_.get()) || !is_ours_alone(run.get())) return false;
  if (fstatat(run.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || status.st_ino != control_.inode()) return false;
  folder_path_ = store + "/" + job_;
  return !job_.empty() && job_ != "." && job_ != ".." && job_ != kRunFolder && job_ != kFilesFolder;
}

bool Helper::open_place() {
  if (!file_.empty()) {
    const auto slash = file_.rfind('/');
    folder_path_ = slash == 0 ? "/" : file_.substr(0, slash);
    name_ = file_.substr(slash + 1);
    folder_ = Fd(open(folder_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  } else {
    mkdirat(store_.get(), job_.c_str(), 0700);
    folder_ = Fd(openat(store_.get(), job_.c_str(), kFolderFlags));
    if (!folder_.is_open() || !is_ours_alone(folder_.get())) return false;
    for (const unsigned known : list_generations(folder_.get())) generation_ = std::max(generation_, known + 1);
    name_ = name_generation(generation_);
  }
  temporary_ = "." + name_ + ".tmp-" + (file_.empty() ? std::to_string(pid_) : job_);
  unlinkat(folder_.get(), temporary_.c_str(), 0);  // of a trigger that was killed: we hold the lock
  image_ = Fd(openat(folder_.get(), temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  return image_.is_open();
}

bool Helper::send_grant() const {
  // Opened anew: the writer's lock belongs to this description alone.
  const Fd lock(open(control_.path().c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!lock.is_open() || fstat(lock.get(), &status) != 0 || status.st_ino != control_.inode()) return false;
  format::HelpGrant answer{generation_};
  const int fds[2] = {lock.get(), image_.get()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
  iovec vector{&answer, sizeof answer};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(header), fds, sizeof fds);
  return sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof answer;
}

// From the process that we were asked to save, and from no other.
bool Helper::grant(int their_fd) {
  const Fd process(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  socket_ = Fd(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), their_fd, 0)));
  int domain = 0, type = 0;
  socklen_t size = sizeof(int);
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_UNIX) return false;
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) return false;
  author_ = find_author(pid_);
  return open_place() && send_grant();
}

void Helper::serve() {
  if (!may_help_) return;
  std::atomic_ref word(control_.page().help);
  // Asked again where the writer has found that it must start anew.
  if (std::int32_t asked = word.load(); asked > 0 && committed_.empty() && word.compare_exchange_strong(asked, 0)) {
    if (!grant(asked - 1)) word.store(format::kNoHelp);
  }
  char done = 0;
  if (!has_granted() || !committed_.empty() || recv(socket_.get(), &done, 1, MSG_DONTWAIT) != 1) return;
  const std::int32_t error = commit();
  send(socket_.get(), &error, sizeof error, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// What the program has written is as trustworthy as it is: the image belongs to its user, and ckpt-restart asks root to say
// --trust.
int Helper::commit() {
  if (fchown(image_.get(), author_, static_cast<gid_t>(-1)) != 0 || fsync(image_.get()) != 0) return errno;
  if (renameat(folder_.get(), temporary_.c_str(), folder_.get(), name_.c_str()) != 0) return errno;
  committed_ = (folder_path_ == "/" ? "" : folder_path_) + "/" + name_;
  fsync(folder_.get());
  if (!file_.empty()) return 0;
  move_link(folder_, name_);
  move_link(store_, job_ + "/" + name_);
  remove_old();
  return 0;
}

// A symbolic link that is never absent: made under another name and renamed over.
void Helper::move_link(const Fd& folder, const std::string& target) const {
  const std::string temporary = ".latest.tmp-" + std::to_string(getpid());
  unlinkat(folder.get(), temporary.c_str(), 0);
  if (symlinkat(target.c_str(), folder.get(), temporary.c_str()) != 0) return;
  if (renameat(folder.get(), temporary.c_str(), folder.get(), kLatestLink) != 0) unlinkat(folder.get(), temporary.c_str(), 0);
}

void Helper::remove_old() const {
  const unsigned long keep = std::max(control_.page().settings.keep, 1U);
  for (const unsigned known : list_generations(folder_.get())) {
    if (known + keep <= generation_) unlinkat(folder_.get(), name_generation(known).c_str(), 0);
  }
}

}  // namespace ckpt
