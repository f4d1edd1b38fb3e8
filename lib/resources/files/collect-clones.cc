// Large files kept by reflink: the file system shares their blocks, so that a copy costs neither time nor space until one changes.
// Copies are made while everything stands, under the number of their description, and get their final place with the commit.
#include <linux/fs.h>

#include "lib/sys/proc-file.h"

#include "lib/resources/files/collect.h"

namespace ckpt {

namespace {

using Path = sys::Text<format::kPathBytes>;

constexpr int kFileSizeLimit = 1;     // RLIMIT_FSIZE
constexpr int kRemoveFolder = 0x200;  // AT_REMOVEDIR

Path path_in(const char* folder, std::uint64_t number) {
  Path path;
  path.add(folder).add_char('/').add_number(number);
  return path;
}

// Whoever made a larger file would be sent SIGXFSZ.
bool may_be_as_large(std::uint64_t size) {
  std::uint64_t limits[2]{};
  return !sys::call(__NR_prlimit64, 0, kFileSizeLimit, nullptr, limits).failed() && size <= limits[0];
}

bool make_folder(const char* folder) {
  Path parent;
  parent.add(folder);
  std::size_t length = parent.size();
  while (length > 0 && folder[length - 1] != '/') --length;
  parent.shorten(length);
  const auto umask = sys::call(__NR_umask, 077);
  sys::call(__NR_mkdir, parent.c_str(), 0700).ignore();  // the first checkpoint of the job
  const auto made = sys::call(__NR_mkdir, folder, 0700);
  sys::call(__NR_umask, umask.value()).ignore();
  return !made.failed() || made.error() == sys::kEexist;
}

struct Job {
  int fd;
  const char* path;
};

bool clone(Collector*, void* argument) {
  const auto* job = static_cast<const Job*>(argument);
  const sys::ProcPath again = sys::descriptor_path(job->fd);
  const sys::Fd from(sys::open(again.c_str(), O_RDONLY));
  if (!from.is_open()) return false;
  const sys::Fd to(sys::open(job->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  if (to.is_open() && !sys::call(__NR_ioctl, to.get(), FICLONE, from.get()).failed()) return true;
  sys::call(__NR_unlinkat, AT_FDCWD, job->path, 0).ignore();
  return false;
}

// What walks the names of a folder and does something to each. False: there is no such folder.
template <typename Function>
bool for_each_clone(const char* folder, Function function) {
  char buffer[2048];
  sys::NumberDirectory names(folder, buffer);
  if (!names.is_open()) return false;
  for (int number = names.next(); number >= 0; number = names.next()) function(path_in(folder, static_cast<std::uint64_t>(number)));
  return true;
}

int sync(const char* path, int flags) {
  const auto opened = sys::open(path, O_RDONLY | flags);
  const sys::Fd file(opened);
  return opened.failed() ? opened.error() : sys::call(__NR_fsync, file.get()).error();
}

}  // namespace

bool clone_file(Collector* collector, int fd, const FileFacts& facts, std::uint32_t description) {
  constexpr std::uint32_t kMostNumber = 0x7fffffff;  // of sys::NumberDirectory
  if (collector->clone_folder[0] == '\0' || description > kMostNumber || !may_be_as_large(facts.size) ||
      !make_folder(collector->clone_folder))
    return false;
  const Path path = path_in(collector->clone_folder, description);
  Job job{fd, path.c_str()};
  if (!keeping_locks(collector, facts.inode, clone, &job)) {
    sys::call(__NR_unlinkat, AT_FDCWD, collector->clone_folder, kRemoveFolder).ignore();  // if nothing else is in it
    return false;
  }
  auto* record = collector->add_record<format::FileCloneRecord>(format::RecordType::kFileClone);
  if (record != nullptr) *record = {description, 0};
  return true;
}

void discard_clones(const char* folder) {
  if (folder[0] == '\0') return;
  const auto remove = [](const Path& path) { sys::call(__NR_unlinkat, AT_FDCWD, path.c_str(), 0).ignore(); };
  if (for_each_clone(folder, remove)) sys::call(__NR_unlinkat, AT_FDCWD, folder, kRemoveFolder).ignore();
}

int keep_clones(const char* folder, const char* name) {
  int error = 0;
  const auto sync_one = [&error](const Path& path) {
    if (error == 0) error = sync(path.c_str(), 0);
  };
  if (folder[0] == '\0' || !for_each_clone(folder, sync_one)) return 0;
  if (error == 0) error = sync(folder, O_DIRECTORY);
  discard_clones(name);  // of a writer that was killed before its image was there
  if (error == 0) error = sys::call(__NR_renameat, AT_FDCWD, folder, AT_FDCWD, name).error();
  return error;
}

}  // namespace ckpt
