// What ckpt-restart hands over to the restorer: everything that is left to do inside the process that becomes the program.
//
// One memory file: this header, then arrays at the offsets it names. Both sides come from one installation, and `version` says so.
#pragma once

#include <cstdint>

#include "lib/format/numbers.h"
#include "lib/resources/files/record.h"
#include "lib/resources/memory/record.h"
#include "lib/resources/process/record.h"
#include "lib/resources/threads/record.h"

namespace ckpt::format {

inline constexpr char kHandOverMagic[8] = {'C', 'K', 'P', 'T', 'H', 'N', 'D', '\n'};
inline constexpr std::uint32_t kHandOverVersion = 4;
inline constexpr std::uint32_t kNoPath = 0xffffffffU;

// Where an array lies in the hand-over, and how many elements it has.
struct HandList {
  std::uint64_t offset;
  std::uint64_t count;
};

struct HandArea {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t file_offset;
  std::uint64_t path;   // offset of the file's path in the hand-over; kNoPath: anonymous
  std::uint64_t inode;  // of the file, checked when it is opened; 0: made by ckpt-restart itself
  AreaKind kind;
  std::uint8_t protection;
  std::uint16_t flags;      // AreaFlags
  std::uint32_t has_pages;  // some of its pages are in the image
  std::uint32_t object;     // index among `objects`, of kSharedObject and kPrivateObject
  std::uint32_t marks;      // AreaMarks
  std::uint64_t name;       // offset of the name that PR_SET_VMA_ANON_NAME gave it; kNoPath: none
};

// A memory object. Its pages, if it is anonymous, are among the extents, from address 0 on; see HandExtentMark.
struct HandObject {
  std::uint64_t size;
  std::uint64_t span;    // of what is mapped of it: the end of the area that reaches furthest
  std::int32_t fd;       // open for reading and writing; −1: anonymous
  std::uint32_t seals;   // for the restorer to set
  std::uint32_t flags;   // AreaFlags of its areas
  std::int32_t segment;  // id of System V shared memory; −1: it is none
};

// What Extent::frame says in the hand-over.
enum HandExtentMark : std::uint32_t {
  kPlain = 0,
  kMakeWritable = 1,  // its area is not writable as a whole
  kGuard = 2,         // among `zeros`: may not be touched
  kFirstObject = 3,   // and more: of the object with this number less 3; `start` is an offset in it
};

// The pages of one frame: `extent_count` elements of `extents` from `first_extent` on, ascending in frame_offset.
struct HandFrame {
  Frame frame;
  std::uint64_t first_extent;
  std::uint64_t extent_count;
};

// A descriptor that shows the program itself (/proc/PID/maps, a thread's files), opened when that is there.
struct HandOpen {
  std::uint64_t path;  // kNoPath: a duplicate of `same_as`
  std::uint64_t offset;
  std::uint32_t flags;
  std::int32_t fd;
  std::int32_t same_as;
  std::uint32_t close_on_exec;
};

// A lock that the program held: taken when the last descriptor is closed that it would not survive.
struct HandLock {
  FileLock lock;
  std::uint64_t path;  // for the message
  std::int32_t fd;
  std::uint32_t reserved;
};

// A watch of inotify(7), added last of all: it would see what the restart does.
struct HandWatch {
  std::uint64_t path;
  std::int32_t fd;
  std::int32_t descriptor;
  std::uint32_t mask;
  std::uint32_t reserved;
};

// Who is to be told of the first message in a POSIX queue; sigevent(3type) begins with the first three.
struct HandNotification {
  std::uint64_t value;
  std::int32_t signal;
  std::int32_t kind;
  std::int32_t fd;
  std::uint32_t reserved[9];
};

// Who is signalled for a descriptor: may be a thread.
struct HandOwner {
  std::int32_t fd;
  std::int32_t type;
  std::int32_t owner;
  std::int32_t signal;
  std::uint32_t is_async;  // O_ASYNC
};

// A thread that has a working directory of its own.
struct HandFolder {
  std::int32_t tid;
  std::uint32_t umask;
  std::uint64_t path;  // offset in the hand-over
};

// A ring of Linux AIO.
struct HandRing {
  std::uint64_t address;
  std::uint64_t size;
  std::uint32_t has_context;
  std::uint32_t reserved;
  HandList events;  // AioEvent
};

struct HandOver {
  char magic[8];
  std::uint32_t version;
  std::uint32_t workers;   // threads that read
  HandList areas;          // HandArea, ascending
  HandList objects;        // HandObject
  HandList frames;         // HandFrame
  HandList extents;        // Extent
  HandList zeros;          // Extent: guards, and pages of mapped files that the program has cleared; `frame` is a HandExtentMark
  HandList threads;        // ThreadRecord, the main thread first
  HandList states;         // ThreadStateRecord: as many, in the same order; or none
  HandList folders;        // HandFolder
  HandList tables;         // ThreadDescriptorRecord
  HandList for_threads;    // std::int32_t, descriptors
  HandList pending;        // PendingSignalRecord
  HandList actions;        // SignalActionRecord
  HandList timers;         // IntervalTimerRecord
  HandList posix_timers;   // PosixTimerRecord, ascending
  HandList limits;         // LimitRecord
  HandList opens;          // HandOpen
  HandList locks;          // HandLock
  HandList owners;         // HandOwner
  HandList watches;        // HandWatch
  HandList notifications;  // HandNotification
  HandList close_on_exec;  // std::int32_t: descriptors to mark
  HandList rings;          // HandRing
  HandList auxv;           // bytes
  HandList executable;     // bytes of its path, with NUL; empty: not to be set
  HandList numbers;        // NumberPair: who in the job could not get its old number
  HandList job_numbers;    // std::int32_t: all old numbers; where `numbers` is not empty
  Translation translation;
  MemoryLayoutRecord layout;
  RuntimeRecord runtime;
  std::uint64_t cap_permitted, cap_effective, cap_inheritable;  // what the program had, or nothing
  std::uint32_t keeps_capabilities;                             // the process runs with what its starter has
  std::uint32_t membarriers;
  std::uint64_t xstate_permitted;
  std::uint32_t write_execute;
  std::uint32_t merges_memory;
  std::uint32_t dumpable;
  std::uint32_t personality;
  char name[16];  // of the main thread
  std::int32_t image_fd;
  std::int32_t control_fd;
  std::int32_t report_fd;  // one line on failure; a zero byte: this process is ready
  std::int32_t gate_fd;    // a byte that stays there: all are ready; end of file: they never will be
  std::uint64_t old_vdso;  // the image's, of another kernel, among `areas` as plain memory; 0: this kernel's is the same
  std::uint64_t old_vdso_size;
  std::uint64_t old_vdso_data;  // where its data began
  std::uint32_t future_locks;   // MCL_FUTURE, MCL_ONFAULT
  std::uint32_t is_stopped;     // by SIGSTOP or job control
};

}  // namespace ckpt::format
