// Files of /proc: their paths, and what stands in them, line by line or by field. Buffers are the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/sys/calls.h"
#include "lib/sys/text.h"

namespace ckpt::sys {

using ProcPath = Text<64>;

// /proc/PID/FILE
inline ProcPath proc_path(int pid, const char* file) {
  ProcPath path;
  path.add("/proc/").add_signed(pid).add_char('/').add(file);
  return path;
}

// /proc/PID/task/TID/FILE
inline ProcPath task_path(int pid, int tid, const char* file) {
  ProcPath path = proc_path(pid, "task/");
  path.add_signed(tid).add_char('/').add(file);
  return path;
}

// The same of a thread of this process.
inline ProcPath task_path(int tid, const char* file) {
  ProcPath path;
  path.add("/proc/self/task/").add_signed(tid).add_char('/').add(file);
  return path;
}

// The link of a descriptor of this thread.
inline ProcPath descriptor_path(int fd) {
  ProcPath path;
  path.add("/proc/thread-self/fd/").add_signed(fd);
  return path;
}

// Whether the kernel makes a file whole at the first read (status, fdinfo), so that a short read is its end, or in pieces (maps).
enum class Made { kWhole, kInPieces };

class LineReader {
 public:
  LineReader(const char* path, std::span<char> buffer, Made made = Made::kInPieces)
      : buffer_(buffer), made_(made), fd_(open(path, O_RDONLY)) {}
  bool is_open() const { return fd_.is_open(); }
  // The next line without its newline, NUL-terminated, valid until the next call; nullptr at the end. Longer lines are cut.
  char* next();
  int fd() const { return fd_.get(); }

 private:
  std::span<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool is_at_end_ = false;
  Made made_;
  Fd fd_;
};

// A file of lines like "NAME: VALUE", in their order: proc_pid_status(5), proc_pid_fdinfo(5), proc_meminfo(5).
class FieldReader {
 public:
  static constexpr std::size_t kEnough = 2048;  // bytes of buffer for a status file at once
  FieldReader(const char* path, std::span<char> buffer) : lines_(path, buffer, Made::kWhole) {}
  // The value, valid until the next call; nullptr: no line behind the last one has this name.
  const char* find(const char* name);

 private:
  LineReader lines_;
};

// linux_dirent64 of getdents64(2).
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t size;
  std::uint8_t type;
  char name[];
};

// Walks the entries of a folder in the order the kernel gives them. A symbolic link is none.
class Directory {
 public:
  Directory(const char* path, std::span<char> buffer) : buffer_(buffer), fd_(open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)) {}
  bool is_open() const { return fd_.is_open(); }
  int fd() const { return fd_.get(); }
  // Valid until the next call; nullptr at the end, or where it can't be read further: then error() is not 0.
  const DirectoryEntry* next();
  int error() const { return error_; }

 private:
  std::span<char> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  int error_ = 0;
  Fd fd_;
};

// Its numeric names only: folders of /proc (task, fd).
class NumberDirectory {
 public:
  NumberDirectory(const char* path, std::span<char> buffer) : directory_(path, buffer) {}
  bool is_open() const { return directory_.is_open(); }
  int fd() const { return directory_.fd(); }
  // The next number; −1 at the end.
  int next();

 private:
  Directory directory_;
};

// A stat file of a process or thread (proc_pid_stat(5)). Fields are counted from 1, as there; the second, the name, may hold
// anything.
class StatFile {
 public:
  explicit StatFile(const char* path);
  bool is_read() const { return count_ > 0; }
  // Without its parentheses; NUL-terminated.
  const char* name() const { return name_; }
  // From the third on, up to the next space; "" where there is none.
  const char* field(int number) const { return number < kFirst + count_ ? text_ + begins_[number - kFirst] : ""; }
  std::uint64_t number(int field) const;
  // −1 where it is negative, and where there is none.
  std::int64_t signed_number(int field) const;

 private:
  static constexpr int kFirst = 3, kFields = 52;
  char text_[1024];
  const char* name_ = "";
  std::uint16_t begins_[kFields - kFirst + 1];
  int count_ = 0;
};

// The target of a link, NUL-terminated. False: it can't be read.
bool read_link(const char* link, char* to, std::size_t size);

// The inode of a namespace, by its file's name in a folder of namespaces (/proc/thread-self/ns); 0: it can't be told.
std::uint64_t read_namespace(const char* folder, const char* name);

// Seccomp filters that a status file of /proc tells of; strict mode counts as one.
std::uint32_t count_seccomp_filters(const char* status_path);

}  // namespace ckpt::sys
