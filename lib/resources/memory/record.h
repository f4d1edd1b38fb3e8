// memory: areas, the files behind them, and which page is where.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

// The kernel's own notes about the address space: fields of /proc/PID/stat, set again by prctl(PR_SET_MM_MAP).
// The auxiliary vector follows, `auxv_size` bytes.
struct MemoryLayoutRecord {
  std::uint64_t start_code, end_code, start_data, end_data;
  std::uint64_t start_brk, brk, start_stack;
  std::uint64_t arg_start, arg_end, env_start, env_end;
  std::uint64_t auxv_size;
};

enum class AreaKind : std::uint8_t {
  kAnonymous = 1,       // private, no file
  kPrivateFile = 2,     // MAP_PRIVATE of `file`; written pages are in the image
  kSharedReadOnly = 3,  // MAP_SHARED of `file`, never writable
  kVdso = 4,            // the kernel's own: moved into place, not restored
  kVvar = 5,
  kVvarClock = 6,
  kControl = 7,         // the control page: mapped anew
  kSharedObject = 8,    // MAP_SHARED of a memory object; here `file` is an index among the kMemoryObject records
  kSharedFile = 9,      // MAP_SHARED of `file`, writable: what is written reaches the file
  kPrivateObject = 10,  // MAP_PRIVATE of a memory object, `file` as above; written pages are in the image
  kAioRing = 11,        // of Linux AIO: its AioRingRecord has what is in it
};

// Whether pages that the program has written to are the area's own, and …
constexpr bool has_own_pages(AreaKind kind) {
  return kind == AreaKind::kAnonymous || kind == AreaKind::kPrivateFile || kind == AreaKind::kPrivateObject;
}
// … whether the others show what is mapped.
constexpr bool shows_file(AreaKind kind) { return kind == AreaKind::kPrivateFile || kind == AreaKind::kPrivateObject; }
constexpr bool is_of_object(AreaKind kind) { return kind == AreaKind::kSharedObject || kind == AreaKind::kPrivateObject; }

enum AreaFlags : std::uint16_t {
  kGrowsDown = 1U << 0,
  kStack = 1U << 1,     // [stack]
  kHeap = 1U << 2,      // [heap]
  kHugePage = 1U << 3,  // MADV_HUGEPAGE
  kNoHugePage = 1U << 4,
  kNoReserve = 1U << 5,
  kDontDump = 1U << 6,
  kFileGone = 1U << 7,  // was a private mapping of a file that is deleted or replaced: all its bytes are here
  kMayWrite = 1U << 8,  // shared areas: was opened for writing, so mprotect may make it writable
};

// What else the program has asked for (madvise(2), mlock(2), mseal(2)).
enum AreaMarks : std::uint32_t {
  kLocked = 1U << 0,
  kLockedOnFault = 1U << 1,
  kWipeOnFork = 1U << 2,
  kDontFork = 1U << 3,
  kMergeable = 1U << 4,
  kDroppable = 1U << 5,  // MAP_DROPPABLE
  kSealed = 1U << 6,
  kRandomAccess = 1U << 7,
  kSequentialAccess = 1U << 8,
  kReservedPool = 1U << 9,  // MAP_HUGETLB; of anonymous memory, AreaRecord::offset has the size of its pages
};
inline constexpr std::uint32_t kKnownMarks = (kReservedPool << 1) - 1;

// Only when set: memory that is mapped from now on is locked (mlockall(2)).
struct MemoryLocksRecord {
  std::uint32_t future;  // MCL_FUTURE, MCL_ONFAULT
  std::uint32_t reserved;
};

// A ring of Linux AIO as the kernel lays it out (fs/aio.c): the events from `head` to `tail` have not been fetched yet. Its address
// is the number of the context (io_setup(2)).
struct AioEvent {
  std::uint64_t data, object;
  std::int64_t results[2];
};
struct AioRing {
  static constexpr std::uint32_t kMagic = 0xa10a10a1;
  std::uint32_t id, size, head, tail;  // size: events that there is room for, of which one stays free
  std::uint32_t magic, compatible_features, incompatible_features, header_size;
};
static_assert(sizeof(AioEvent) == 32 && sizeof(AioRing) == 32);

// No request is in flight. What has not been fetched follows: AioEvent[event_count].
struct AioRingRecord {
  std::uint64_t address;
  std::uint32_t has_context;  // 0: the parent's, which a fork leaves without a context
  std::uint32_t event_count;
};

inline constexpr std::uint32_t kNoFile = 0xffffffffU;

// The name follows, as in /proc/PID/maps ("", "[heap]", "[anon:x]"), `name_size` bytes with its NUL.
struct AreaRecord {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t offset;  // in the file; of anonymous memory with kReservedPool: bytes of a page
  std::uint32_t file;    // index among the process's kMappedFile records, or kNoFile
  AreaKind kind;
  std::uint8_t protection;  // PROT_*
  std::uint16_t flags;      // AreaFlags
  std::uint32_t name_size;
  std::uint32_t marks;  // AreaMarks
};
static_assert(sizeof(AreaRecord) == 40);

// A file mapped by an area. The path follows, NUL-terminated. `content` is zero when the bytes were not kept.
struct MappedFileRecord {
  std::uint64_t device;
  std::uint64_t inode;
  std::uint64_t size;
  std::int64_t modified_ns;
  std::uint32_t mode;
  std::uint32_t path_size;
  Hash128 content;               // XXH3-128 of the whole file; its copy is files/<hash> of the store, unless …
  std::uint32_t content_record;  // … 1 + index of the kFileContent record that holds it; 0: in the store
  std::uint32_t is_executable;   // 1: the program itself (/proc/PID/exe)
};

enum class ObjectKind : std::uint32_t {
  kAnonymous = 1,   // MAP_SHARED | MAP_ANONYMOUS
  kMemoryFile = 2,  // memfd_create(2)
  kNamed = 3,       // a file of a memory file system (/dev/shm): made again if it is gone, and its bytes put back
  kDeleted = 4,     // a file that has lost its name
  kSegment = 5,     // System V shared memory; its bytes stand in lib/resources/sysv
};

// Shared memory, described once however often it is mapped or open. The path follows as /proc/PID/maps shows it (of a memfd: its
// name alone), NUL-terminated.
struct MemoryObjectRecord {
  std::uint64_t device;
  std::uint64_t inode;
  std::uint64_t size;
  ObjectKind kind;
  std::uint32_t content;  // 1 + index of the process's kFileContent record
  std::uint32_t mode;
  std::uint32_t seals;  // F_GET_SEALS
  std::uint32_t path_size;
  std::uint32_t page_shift;  // of a kMemoryFile of the reserved pool of huge pages: log2 of the size of its pages; 0: not of it
};
static_assert(sizeof(MemoryObjectRecord) == 48);

// State of a descriptor of kind kMemFd.
struct MemFdState {
  std::uint32_t object;  // index among the process's kMemoryObject records
  std::uint32_t reserved;
};

enum class PageKind : std::uint32_t {
  kZero = 0,    // reads as zeros (never touched, or touched and zero)
  kHere = 1,    // bytes in `frame` of this image from `frame_offset` on
  kParent = 2,  // bytes in `frame` of the parent image (format version 1 never writes it)
  kFile = 3,    // unchanged page of the mapped file, or of the memory object
  kGuard = 4,   // may not be touched (madvise(2), MADV_GUARD_INSTALL)
};

// A run of pages. Absence never means unchanged: the extents of a process cover its areas to the last page.
struct Extent {
  std::uint64_t start;  // address
  std::uint64_t pages;
  PageKind kind;
  std::uint32_t frame;
  std::uint64_t frame_offset;  // bytes into the decoded frame
};
static_assert(sizeof(Extent) == 32);

}  // namespace ckpt::format
