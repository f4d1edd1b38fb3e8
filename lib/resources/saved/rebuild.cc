// saved: the rebuild side. See rebuild.h. Contents are written in place: open descriptors and hard links keep their file.
#include "lib/resources/saved/rebuild.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "lib/common/store.h"

namespace ckpt {

namespace {

using Action = FileChange::Action;

void move_aside(const FileChange& change) {
  namespace fs = std::filesystem;
  create_folder(fs::path(change.aside).parent_path());
  if (rename(change.path.c_str(), change.aside.c_str()) == 0) return;
  std::error_code error;
  fs::copy(change.path, change.aside, fs::copy_options::recursive | fs::copy_options::copy_symlinks, error);
  if (!error) fs::remove_all(change.path, error);
  if (error) throw Error("move into the store", change.path, error.message(), ExitCode::kRunner);
}

bool is_regular(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

void make_empty(const FileChange& change) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(change.path).parent_path(), ignored);
  const Fd fd(open(change.path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, change.mode));
  if (!fd.is_open()) throw Error::from_errno("create", change.path, errno, ExitCode::kRunner);
}

void make_other(const FileChange& change) {
  const char* path = change.path.c_str();
  const int result = change.action == Action::kFolder ? mkdir(path, change.mode)
                     : change.action == Action::kLink ? symlink(change.target.c_str(), path)
                                                      : mkfifo(path, change.mode);
  if (result != 0 && errno != EEXIST) throw Error::from_errno("create", change.path, errno, ExitCode::kRunner);
  if (result == 0 && change.action != Action::kLink) chmod(path, change.mode);  // whatever the umask is here
}

// By reflink, which takes neither time nor space, where the file system can; else byte by byte. False: errno tells.
bool copy_file(int from, int to) {
  if (ioctl(to, FICLONE, from) == 0) return true;
  for (;;) {
    const ssize_t count = sendfile(to, from, nullptr, 1U << 30);
    if (count <= 0) return count == 0;
  }
}

void copy_aside(const FileChange& change) {
  create_folder(std::filesystem::path(change.aside).parent_path());
  const Fd from(open(change.path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const Fd to(open(change.aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, change.mode));
  if (!from.is_open() || !to.is_open() || !copy_file(from.get(), to.get()))
    throw Error::from_errno("copy into the store", change.path, errno, ExitCode::kRunner);
}

// A file that is read-only to its owner is opened up for the moment.
Fd open_for_writing(const FileChange& change) {
  Fd fd(open(change.path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.is_open() && errno == EACCES && chmod(change.path.c_str(), change.mode | S_IWUSR) == 0) {
    fd = Fd(open(change.path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!fd.is_open()) throw Error::from_errno("write to", change.path, errno, ExitCode::kRunner);
  return fd;
}

bool fill(int fd, const Image& image, const FileContent& content) {
  if (ftruncate(fd, static_cast<off_t>(content.size)) != 0) return false;
  return std::ranges::all_of(content.extents, [&](const format::ContentExtent& extent) {
    const auto bytes = image.read_frame(extent.frame);
    const auto written = pwrite(fd, bytes.data() + extent.frame_offset, extent.size, static_cast<off_t>(extent.offset));
    return written == static_cast<ssize_t>(extent.size);
  });
}

void put_content_back(const RestartPlan& plan, const FileChange& change, bool is_there) {
  if (is_there) {
    copy_aside(change);
  } else {
    make_empty(change);
  }
  const Fd fd = open_for_writing(change);
  const auto fail = [&] { return Error::from_errno("put back", change.path, errno, ExitCode::kRunner); };
  if (ftruncate(fd.get(), 0) != 0) throw fail();
  if (change.action == Action::kClone) {
    const Fd clone(open(change.target.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!clone.is_open() || !copy_file(clone.get(), fd.get())) throw fail();
  } else if (!fill(fd.get(), *plan.image, *change.content)) {
    throw fail();
  }
  fchmod(fd.get(), change.mode);
  const timespec modified{change.modified_ns / 1'000'000'000, change.modified_ns % 1'000'000'000};
  const timespec times[2] = {{0, UTIME_OMIT}, modified};
  if (futimens(fd.get(), times) != 0 || fsync(fd.get()) != 0) throw fail();
}

}  // namespace

void put_files_back(const RestartPlan& plan) {
  for (const FileChange& change : plan.changes) {
    const bool has_bytes = change.action == Action::kContent || change.action == Action::kClone;
    const bool is_in_place = has_bytes && is_regular(change.path);
    if (!change.aside.empty() && !is_in_place) move_aside(change);
    if (has_bytes) {
      put_content_back(plan, change, is_in_place);
    } else if (change.action != Action::kMoveAside) {
      make_other(change);
    }
  }
}

}  // namespace ckpt
