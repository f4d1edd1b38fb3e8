// statx(2), or fstatat(2), without libc. Any context.
#include "lib/sys/file-facts.h"

#include <asm/stat.h>
#include <linux/stat.h>

namespace ckpt {

namespace {

std::uint64_t device(std::uint64_t major, std::uint64_t minor) { return major << 32 | minor; }

// A device number as the older call packs it (makedev(3)).
std::uint64_t unpack_device(std::uint64_t packed) {
  return device((packed >> 8 & 0xfff) | (packed >> 32 & ~0xfffULL), (packed & 0xff) | (packed >> 12 & ~0xffULL & 0xffffffff));
}

std::uint64_t nanoseconds(std::uint64_t seconds, std::uint64_t rest) { return seconds * 1'000'000'000 + rest; }

// Old kernels, and containers that forbid statx because they do not know it.
sys::SysResult read_old_status(int fd, const char* path, int flags, FileFacts* facts) {
  struct stat status {};
  const auto result = sys::call(__NR_newfstatat, fd, path, &status, flags);
  if (result.failed()) return result;
  *facts = {unpack_device(status.st_dev),
            status.st_ino,
            static_cast<std::uint64_t>(status.st_size),
            unpack_device(status.st_rdev),
            static_cast<std::int64_t>(nanoseconds(status.st_mtime, status.st_mtime_nsec)),
            status.st_mode,
            static_cast<std::uint32_t>(status.st_nlink)};
  return result;
}

sys::SysResult read_status(int fd, const char* path, int flags, FileFacts* facts) {
  struct statx status {};
  const auto result = sys::call(__NR_statx, fd, path, flags, STATX_BASIC_STATS, &status);
  if (result.error() == sys::kEnosys || result.error() == sys::kEperm) return read_old_status(fd, path, flags, facts);
  if (result.failed()) return result;
  facts->device = device(status.stx_dev_major, status.stx_dev_minor);
  facts->raw_device = device(status.stx_rdev_major, status.stx_rdev_minor);
  facts->inode = status.stx_ino;
  facts->size = status.stx_size;
  facts->mode = status.stx_mode;
  facts->links = status.stx_nlink;
  facts->modified_ns = status.stx_mtime.tv_sec * 1'000'000'000LL + status.stx_mtime.tv_nsec;
  return result;
}

}  // namespace

sys::SysResult read_facts(int fd, const char* path, FileFacts* facts) {
  constexpr int kEmptyPath = 0x1000;
  return read_status(fd, path, path[0] == '\0' ? kEmptyPath : 0, facts);
}

sys::SysResult read_link_facts(const char* path, FileFacts* facts) {
  return read_status(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, facts);
}

}  // namespace ckpt
