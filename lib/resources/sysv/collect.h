// sysv: which System V objects there are, whose they are, and what the collectors of the three kinds share.
//
// The kernel keeps no list of who uses an object. An object is the job's if a member has it attached, or is noted as its creator or
// last user; or if our user made it since the job began and nobody else who lives is noted. That may be one too many, which does no
// harm: it is read, and made again where only the job sees it. In the IPC namespace that a restart has made, all are the job's.
#pragma once

#include "lib/resources/collector.h"
#include "lib/resources/sysv/record.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

enum class SystemVKind { kSegment, kSemaphores, kQueue };

// A line of /proc/sysvipc/.
struct SystemVEntry {
  SystemVKind kind;
  format::SystemVObject object;
  std::uint32_t creator;    // its user
  std::uint64_t size;       // bytes, or semaphores
  std::uint64_t count;      // attachments, or messages
  std::int32_t users[2];    // processes that the kernel has noted; 0: none
  std::int64_t used_at;     // seconds: their last use
  std::int64_t changed_at;  // seconds
};

// Walks all objects of a kind.
class SystemVTable {
 public:
  explicit SystemVTable(SystemVKind kind);
  bool next(SystemVEntry* entry);

 private:
  SystemVKind kind_;
  char buffer_[1024];
  sys::LineReader lines_;
};

bool find_object(SystemVKind kind, std::int32_t id, SystemVEntry* entry);

enum class Owner {
  kJob,
  kPerhapsJob,  // made by our user since the job began, and that is all that is known
  kOthers,
  kShared,  // used by a member, and by a process that is not one
};
// `stranger` becomes the process of kShared. Further processes that the kernel has noted: `noted`, or nullptr.
Owner owner_of(const Collector& collector, const SystemVEntry& entry, std::span<const std::int32_t> noted, int* stranger);

bool is_in_own_namespace(const Collector& collector);
// Areas of all members of the job that show the segment; the kernel counts them, too.
std::uint64_t count_attachments(const Collector& collector, std::int32_t id);

// "process 5: shared memory 3 (key 0x7): "
Message& refuse_object(Collector* collector, const SystemVEntry& entry);
bool refuse_shared(Collector* collector, const SystemVEntry& entry, int stranger);

bool collect_semaphores(Collector* collector);
bool collect_queues(Collector* collector);
bool collect_detached_segments(Collector* collector);

}  // namespace ckpt
