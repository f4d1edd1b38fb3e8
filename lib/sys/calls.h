// Typed system calls of the freestanding world. Names are the kernel's; only what is used here.
#pragma once

#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/time.h>

#include <cstddef>
#include <cstdint>

#include "lib/sys/arch/x86_64/syscall.h"

namespace ckpt::sys {

inline constexpr int kEperm = 1, kEnoent = 2, kEsrch = 3, kEintr = 4, kEio = 5, kEbadf = 9, kEagain = 11, kEnomem = 12,
                     kEacces = 13, kEbusy = 16, kEexist = 17, kEinval = 22, kEnospc = 28, kEfbig = 27, kEdeadlk = 35,
                     kEnametoolong = 36, kEnosys = 38, kEtimedout = 110;

inline SysResult open(const char* path, int flags, int mode = 0) {
  return call(__NR_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}
inline void close(int fd) { call(__NR_close, fd).ignore(); }
inline SysResult read(int fd, void* to, std::size_t size) { return call(__NR_read, fd, to, size); }
inline SysResult pread(int fd, void* to, std::size_t size, std::uint64_t offset) {
  return call(__NR_pread64, fd, to, size, offset);
}
inline SysResult write(int fd, const void* from, std::size_t size) { return call(__NR_write, fd, from, size); }
inline SysResult pwrite(int fd, const void* from, std::size_t size, std::uint64_t offset) {
  return call(__NR_pwrite64, fd, from, size, offset);
}

inline SysResult map(std::uint64_t address, std::size_t size, int protection, int flags, int fd = -1, std::uint64_t offset = 0) {
  return call(__NR_mmap, address, size, protection, flags, fd, offset);
}
// Memory that stays in the program after a checkpoint, far from all that the kernel places by itself: beside an area that grows
// downwards (MAP_GROWSDOWN) it would be in the way.
inline SysResult map_aside(std::size_t size) {
  constexpr std::uint64_t kFirst = 0x3a0000000000, kStep = 1U << 26;
  constexpr unsigned kTries = 64;
  for (unsigned i = 0; i < kTries; ++i) {
    const auto mapped = map(kFirst + i * kStep, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE);
    if (!mapped.failed() && static_cast<std::uint64_t>(mapped.value()) == kFirst + i * kStep) return mapped;
    if (!mapped.failed()) call(__NR_munmap, mapped.value(), size).ignore();  // an old kernel takes it for a hint
  }
  return map(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}
inline SysResult unmap(std::uint64_t address, std::size_t size) { return call(__NR_munmap, address, size); }
inline SysResult protect(std::uint64_t address, std::size_t size, int protection) {
  return call(__NR_mprotect, address, size, protection);
}

inline int getpid() { return static_cast<int>(call(__NR_getpid).value()); }
inline int gettid() { return static_cast<int>(call(__NR_gettid).value()); }

inline std::int64_t clock_ns(int clock) {
  __kernel_timespec time{};
  call(__NR_clock_gettime, clock, &time).ignore();
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

// Waits while *word == value, at most timeout_ns (negative: for ever). Spurious returns happen.
inline SysResult futex_wait(std::uint32_t* word, std::uint32_t value, std::int64_t timeout_ns, bool shared = false) {
  const __kernel_timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  return call(__NR_futex, word, FUTEX_WAIT | (shared ? 0 : FUTEX_PRIVATE_FLAG), value, timeout_ns < 0 ? nullptr : &timeout);
}
inline void futex_wake(std::uint32_t* word, bool shared = false) {
  call(__NR_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), 0x7fffffff).ignore();
}

// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  explicit Fd(SysResult result) : fd_(result.failed() ? -1 : static_cast<int>(result.value())) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    const int fd = other.release();
    reset();
    fd_ = fd;
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// Reads a whole small file, NUL-terminated: one that the kernel makes in one piece (of /proc and /sys, but for lists like maps and
// locks). Bytes read, or the failure.
SysResult read_file(const char* path, char* to, std::size_t size);

// write(2) and pwrite(2) until all is out.
SysResult write_all(int fd, const void* from, std::size_t size);
SysResult pwrite_all(int fd, const void* from, std::size_t size, std::uint64_t offset);
// pread(2) until `size` bytes or the end of the file; the number of bytes read.
SysResult pread_all(int fd, void* to, std::size_t size, std::uint64_t offset);

const char* error_text(int error);

}  // namespace ckpt::sys
