// Whose image is it? Restoring it runs its code with our rights.
#include <fcntl.h>

#include <cerrno>

#include "lib/common/image-reader.h"

namespace ckpt {
namespace {

[[noreturn]] void refuse(const std::string& path, const char* reason) {
  throw Error("trust image", path, std::string(reason) + " (--trust overrides)", ExitCode::kNotPermitted);
}

bool is_writable_by_others(mode_t mode) { return (mode & (S_IWGRP | S_IWOTH)) != 0; }

}  // namespace

void check_trust(int fd, const std::string& path) {
  struct stat status {};
  if (fstat(fd, &status) != 0) throw Error::from_errno("read", path, errno);
  const std::string name = path.empty() ? "-" : path;
  if (status.st_uid != geteuid()) refuse(name, "it belongs to another user");
  if (is_writable_by_others(status.st_mode)) refuse(name, "other users can write to it");
  if (path.empty()) return;
  // The folder that holds the file itself, not a link to it.
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  char target[4096];
  const ssize_t length = readlink(link.c_str(), target, sizeof target - 1);
  if (length <= 0) return;
  const std::string real(target, static_cast<std::size_t>(length));
  const std::string folder = real.substr(0, std::max<std::size_t>(real.rfind('/'), 1));
  if (stat(folder.c_str(), &status) != 0) return;
  if (is_writable_by_others(status.st_mode) && (status.st_mode & S_ISVTX) == 0) refuse(name, "other users can write to its folder");
}

}  // namespace ckpt
