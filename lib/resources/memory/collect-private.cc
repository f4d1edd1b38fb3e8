// memory: private mappings of what can't be found by a name, memory files and deleted files. Where a descriptor or a shared mapping
// leads to the same file, it is a memory object, and such an area shows it wherever the program has not written. Where nothing
// does, the file can't be read whole any more: the area is saved as anonymous memory with all its bytes (kFileGone).
#include "lib/resources/memory/collect.h"

#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::ObjectKind;

constexpr std::uint32_t kTypeMask = 0170000, kRegular = 0100000;

const char* path_of(const GoneMapping& mapping) { return reinterpret_cast<const char*>(mapping.area + 1); }

bool is_of(const GoneMapping& mapping, std::uint64_t device, std::uint64_t inode) {
  return mapping.inode == inode && mapping.device == device;
}

// The bytes of a deleted file are put back into a new one; a living one has a name somewhere.
bool is_candidate(const char* path) { return sys::ends_with(path, " (deleted)"); }

// Makes an object of what the descriptor leads to, if one of the mappings shows it.
void note_descriptor(Collector* collector, int fd) {
  FileFacts facts{};
  const auto flags = sys::call(__NR_fcntl, fd, F_GETFL);
  const bool is_readable = !flags.failed() && (flags.value() & O_PATH) == 0 && (flags.value() & O_ACCMODE) != O_WRONLY;
  if (!is_readable || read_facts(fd, "", &facts).failed() || (facts.mode & kTypeMask) != kRegular) return;
  for (unsigned i = 0; i < collector->gone_count; ++i) {
    const GoneMapping& mapping = collector->gone[i];
    if (!is_of(mapping, facts.device, facts.inode)) continue;
    const bool is_memory_file = sys::starts_with(path_of(mapping), "/memfd:");
    if (!is_memory_file && facts.links > 0) return;
    const std::uint32_t object = memory_object(collector, facts.device, facts.inode,
                                               is_memory_file ? ObjectKind::kMemoryFile : ObjectKind::kDeleted, path_of(mapping));
    if (object != kNoObject) collector->objects[object].fd = fd;
    return;
  }
}

void refer_to_object(Collector* collector, const GoneMapping& mapping) {
  for (unsigned i = 0; i < collector->object_count; ++i) {
    const CollectedObject& object = collector->objects[i];
    if (!is_of(mapping, object.device, object.inode)) continue;
    mapping.area->kind = format::AreaKind::kPrivateObject;
    mapping.area->flags &= static_cast<std::uint16_t>(~format::kFileGone);
    mapping.area->file = i;
    mapping.area->offset = mapping.offset;
  }
}

}  // namespace

void note_gone_mapping(Collector* collector, const GoneMapping& mapping) {
  if (!is_candidate(path_of(mapping))) return;
  if (collector->gone == nullptr) collector->gone = collector->arena->take_array<GoneMapping>(kMaxGoneMappings);
  if (collector->gone == nullptr || collector->gone_count == kMaxGoneMappings) return;
  collector->gone[collector->gone_count++] = mapping;
}

void settle_gone_mappings(Collector* collector) {
  if (collector->gone_count == 0) return;
  char buffer[1024];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  for (int fd = descriptors.is_open() ? descriptors.next() : -1; fd >= 0; fd = descriptors.next()) note_descriptor(collector, fd);
  for (unsigned i = 0; i < collector->gone_count; ++i) refer_to_object(collector, collector->gone[i]);
}

}  // namespace ckpt
