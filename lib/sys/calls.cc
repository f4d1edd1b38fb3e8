// System calls that need a loop. Freestanding; any context.
#include "lib/sys/calls.h"

namespace ckpt::sys {

SysResult read_file(const char* path, char* to, std::size_t size) {
  const SysResult opened = open(path, O_RDONLY);
  if (opened.failed()) return opened;
  const Fd fd(opened);
  SysResult count = read(fd.get(), to, size - 1);
  while (count.error() == kEintr) count = read(fd.get(), to, size - 1);
  if (!count.failed()) to[count.value()] = '\0';
  return count;
}

SysResult write_all(int fd, const void* from, std::size_t size) {
  const char* at = static_cast<const char*>(from);
  while (size > 0) {
    const SysResult result = write(fd, at, size);
    if (result.error() == kEintr) continue;
    if (result.failed()) return result;
    at += result.value();
    size -= static_cast<std::size_t>(result.value());
  }
  return SysResult(0);
}

SysResult pwrite_all(int fd, const void* from, std::size_t size, std::uint64_t offset) {
  const char* at = static_cast<const char*>(from);
  while (size > 0) {
    const SysResult result = pwrite(fd, at, size, offset);
    if (result.error() == kEintr) continue;
    if (result.failed()) return result;
    at += result.value();
    offset += static_cast<std::uint64_t>(result.value());
    size -= static_cast<std::size_t>(result.value());
  }
  return SysResult(0);
}

SysResult pread_all(int fd, void* to, std::size_t size, std::uint64_t offset) {
  char* at = static_cast<char*>(to);
  std::size_t count = 0;
  while (count < size) {
    const SysResult result = pread(fd, at + count, size - count, offset + count);
    if (result.error() == kEintr) continue;
    if (result.failed()) return result;
    if (result.value() == 0) break;
    count += static_cast<std::size_t>(result.value());
  }
  return SysResult(static_cast<long>(count));
}

const char* error_text(int error) {
  switch (error) {
    case kEperm:
      return "Operation not permitted";
    case kEnoent:
      return "No such file or directory";
    case kEsrch:
      return "No such process";
    case kEintr:
      return "Interrupted system call";
    case kEio:
      return "Input/output error";
    case kEbadf:
      return "Bad file descriptor";
    case kEagain:
      return "Resource temporarily unavailable";
    case kEnomem:
      return "Cannot allocate memory";
    case kEacces:
      return "Permission denied";
    case kEbusy:
      return "Device or resource busy";
    case kEexist:
      return "File exists";
    case 20:
      return "Not a directory";
    case 21:
      return "Is a directory";
    case kEinval:
      return "Invalid argument";
    case 23:
      return "Too many open files in system";
    case 24:
      return "Too many open files";
    case kEfbig:
      return "File too large";
    case kEnospc:
      return "No space left on device";
    case 30:
      return "Read-only file system";
    case kEnametoolong:
      return "File name too long";
    case kEnosys:
      return "Function not implemented";
    case 40:
      return "Too many levels of symbolic links";
    case 75:
      return "Value too large for defined data type";
    case kEtimedout:
      return "Connection timed out";
    case 122:
      return "Disk quota exceeded";
    default:
      return "error";
  }
}

}  // namespace ckpt::sys
