// Line by line through a file of /proc, with a buffer of the caller's.
#pragma once

#include <cstddef>
#include <span>

#include "lib/sys/calls.h"

namespace ckpt::sys {

class LineReader {
 public:
  LineReader(const char* path, std::span<char> buffer) : buffer_(buffer), fd_(open(path, O_RDONLY)) {}
  bool is_open() const { return fd_.is_open(); }
  // The next line without its newline, NUL-terminated, valid until the next call; nullptr at the end. Longer lines are cut.
  char* next();
  int fd() const { return fd_.get(); }

 private:
  std::span<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool is_at_end_ = false;
  Fd fd_;
};

// Walks the numeric names of a /proc folder (task, fd) in the order the kernel gives them.
class NumberDirectory {
 public:
  NumberDirectory(const char* path, std::span<char> buffer) : buffer_(buffer), fd_(open(path, O_RDONLY | O_DIRECTORY)) {}
  bool is_open() const { return fd_.is_open(); }
  int fd() const { return fd_.get(); }
  // The next number; −1 at the end.
  int next();

 private:
  std::span<char> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  Fd fd_;
};

// Seccomp filters that a status file of /proc tells of; strict mode counts as one.
std::uint32_t count_seccomp_filters(const char* status_path);

}  // namespace ckpt::sys
