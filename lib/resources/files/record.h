// files: descriptors and the open file descriptions behind them.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

enum class DescriptionKind : std::uint32_t {
  kRegular = 1,   // a file that has a name
  kDeleted = 2,   // a regular file without a name any more: contents in kFileContent `content`
  kDevice = 3,    // a character device without state: null, zero, full, random, urandom
  kTerminal = 4,  // leads outside; TerminalState
  kPipe = 5,      // leads outside; no standard stream: an end without the other one after a restart
  kSocket = 6,    // leads outside; standard streams only
  kOwnPipe = 7,   // within the process: ends of one pipe share device and inode; `size` is its capacity, `content` what is in it
  kEventFd = 8,   // EventFdState
  // Of one process; each has its state.
  kTimerFd = 9,
  kSignalFd = 10,
  kEpoll = 11,
  kInotify = 12,
  kPidFd = 13,
  kDirectory = 14,  // FileLock[]
  kPathOnly = 15,   // opened with O_PATH
  kFifo = 16,       // FifoState; `size` and `content` as of kOwnPipe
  kProcFile = 17,   // made up by the kernel: /proc, /sys …
  // SocketState + SocketOption[]; what is unread is in `content`.
  kUnixSocket = 20,
  kInetSocket = 21,
  kNetlinkSocket = 22,
  kMemFd = 25,  // MemFdState: a memory object, which has the bytes
  // A pseudo-terminal pair within the job.
  kTerminalMaster = 26,  // TerminalMasterState, and what is in it
  kOwnTerminal = 27,     // TerminalState: its slave
  kMessageQueue = 30,    // PosixQueueState; a POSIX one
  kPlainSocket = 31,     // as kInetSocket, of other protocols: nothing is in it, and it is made anew
  kGoneFolder = 32,      // a folder that was removed: FileLock[]
};
inline constexpr DescriptionKind kLastDescriptionKind = DescriptionKind::kGoneFolder;

// How a file that is open for writing goes back with memory on a restart.
enum class FilePolicy : std::uint32_t {
  kNone = 0,    // open for reading only: as it is then
  kAppend = 1,  // cut back to its size at the checkpoint; refused when it changed before that
  kKept = 2,    // its bytes are in `content`, and put back
  kRefuse = 3,  // too large to be kept: refused when it changed, unless there is a FileCloneRecord
  kShared = 4,  // others append to it as well: left as it is
  kSaved = 5,   // below a path of --save: goes back with that
};

// What an open description is and where it stands. The path follows, NUL-terminated, then what the kind needs beyond this
// (lib/resources/<kind>/record.h), on a multiple of 8 bytes.
struct DescriptionRecord {
  std::uint32_t id;  // within the image
  DescriptionKind kind;
  std::uint64_t device;
  std::uint64_t inode;
  std::uint64_t size;  // of the file at the freeze
  std::int64_t modified_ns;
  std::uint64_t offset;
  std::uint32_t status_flags;  // F_GETFL
  std::uint32_t mode;
  std::uint64_t raw_device;  // st_rdev
  std::uint32_t content;     // 1 + index of the process's kFileContent record; 0: none
  std::int32_t stream;       // 0..2: which standard stream it serves; -1: none
  Hash128 tail_hash;         // of the last `tail_mib` MiB, or of the whole file, for those that are written at their end
  std::uint32_t tail_mib;    // 0: not known
  std::uint32_t path_size;
  std::uint32_t state_size;  // bytes of the kind's own state
  FilePolicy policy;
  std::uint16_t owner_type;  // F_SETOWN_EX, of `owner`
  std::uint16_t signal;      // F_SETSIG
  std::int32_t owner;        // process, thread or group that gets signals; 0: none
};
inline constexpr std::uint32_t kMaxTailMib = 64;

// A lock that is held: the state of regular files, deleted ones and folders.
enum class LockKind : std::uint32_t {
  kProcess = 1,      // fcntl(2): F_SETLK
  kDescription = 2,  // F_OFD_SETLK
  kWhole = 3,        // flock(2)
  kLease = 4,        // F_SETLEASE
};
struct FileLock {
  LockKind kind;
  std::uint32_t type;  // F_RDLCK or F_WRLCK
  std::uint64_t start;
  std::uint64_t size;  // 0: to the end
};

// A lock of kind kProcess that its description does not have: of a process that shares it with the one that describes it, or on a
// memory file.
struct ProcessLockRecord {
  FileLock lock;
  std::int32_t fd;
  std::uint32_t reserved;
};

struct FifoState {
  std::uint32_t had_writer;     // 0: no writer was there since it was opened, so that poll(2) shows no end
  std::uint32_t leads_outside;  // 1: the other end is another program's, and so is what is in it
};

struct DescriptorRecord {
  std::int32_t fd;
  std::uint32_t description;    // DescriptionRecord::id
  std::uint32_t flags;          // FD_CLOEXEC
  std::uint32_t is_for_thread;  // the process has no such number: a ThreadDescriptorRecord leads to it
};

// A thread with a table of descriptors of its own (CLONE_FILES) has one of each, and one with fd −1 in any case.
struct ThreadDescriptorRecord {
  std::int32_t tid;
  std::int32_t fd;      // the thread's number
  std::int32_t source;  // where the process has the same description: DescriptorRecord::fd
  std::uint32_t flags;  // FD_CLOEXEC
};

// Bytes of a file, kept in frames of this image. ContentExtent[] follows; what they leave out is a hole.
struct FileContentRecord {
  std::uint64_t size;
  std::uint64_t extent_count;
};

// A file that is too large for the image, and that the file system has kept for it by reflink (ioctl_ficlonerange(2)): beside the
// image NNNNNN.ckpt there is the folder NNNNNN.files, and in it the file <description>.
struct FileCloneRecord {
  std::uint32_t description;  // DescriptionRecord::id, of policy kRefuse
  std::uint32_t reserved;
};

struct ContentExtent {
  std::uint64_t offset;  // in the file
  std::uint64_t size;
  std::uint32_t frame;
  std::uint32_t reserved;
  std::uint64_t frame_offset;
};

}  // namespace ckpt::format
