// sysv: System V objects, each with its old id (sysvipc(7)), and what the end of a process undoes.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

struct SystemVObject {
  std::int32_t id;
  std::int32_t key;
  std::uint32_t uid, gid;
  std::uint32_t mode;  // with SegmentMode, of shared memory
  std::uint32_t reserved;
};
static_assert(sizeof(SystemVObject) == 24);

enum SegmentMode : std::uint32_t {
  kRemoved = 01000,  // SHM_DEST: goes with its last attachment
  kLockedSegment = 02000,
};

// Shared memory. Where it is attached stands in the areas of memory: they show an object of kind kSegment.
struct SegmentRecord {
  SystemVObject object;
  std::uint64_t size;     // as shmget(2) was asked for
  std::uint32_t content;  // 1 + index of the process's kFileContent record, of whole pages
  std::uint32_t reserved;
};

// `count` values follow, std::uint16_t each.
struct SemaphoreSetRecord {
  SystemVObject object;
  std::uint32_t count;
  std::uint32_t was_used;  // 1: semctl(2) shows a time of the last operation, which tells programs that the set is ready
};

// What SEM_UNDO adds to a semaphore when this process ends.
struct SemaphoreUndoRecord {
  std::int32_t set;
  std::uint32_t semaphore;
  std::int32_t adjustment;
  std::uint32_t reserved;
};

struct MessageQueueRecord {
  SystemVObject object;
  std::uint64_t max_bytes;  // msg_qbytes
  std::uint32_t count;      // of messages
  std::uint32_t content;    // 1 + index of the process's kFileContent record: the messages; 0: none
};

// Each message, in order: this, then its bytes, then zeros up to a multiple of 8.
struct SystemVMessage {
  std::uint64_t size;
  std::int64_t type;
};

// Stand for the device in what is known by device and inode; the id is the inode.
inline constexpr std::uint64_t kSegmentDevice = 0xffffffff'00000001ULL;
inline constexpr std::uint64_t kQueueDevice = 0xffffffff'00000002ULL;

}  // namespace ckpt::format
