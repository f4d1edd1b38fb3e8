// sysv: shared memory. Attached segments are read where the program has them, for to attach one changes what shmctl(2) tells of it;
// those that nobody has attached are attached for the moment.
#include "lib/resources/memory/collect.h"
#include "lib/resources/sysv/collect.h"

namespace ckpt {

namespace {

using format::AreaKind;
using format::AreaRecord;
using format::ObjectKind;

constexpr int kReadOnly = 010000;  // SHM_RDONLY

bool shows(const Collector& collector, const AreaRecord& area, const CollectedObject& object) {
  return area.kind == AreaKind::kSharedObject && &collector.objects[area.file] == &object;
}

std::uint32_t add_segment_content(Collector* collector, std::int32_t id, std::uint64_t size, unsigned first_piece) {
  FileFacts facts{};
  facts.device = format::kSegmentDevice;
  facts.inode = static_cast<std::uint64_t>(id);
  return add_content(collector, facts, format::align_up(size, format::kPageSize), first_piece);
}

// All of the segment by the areas that show it; 0: some of it is not there, or there is no memory for it.
std::uint32_t keep_attached(Collector* collector, const CollectedObject& object, std::uint64_t size) {
  const unsigned first_piece = collector->piece_count;
  const std::uint64_t end = format::align_up(size, format::kPageSize);
  for (std::uint64_t done = 0; done < end;) {
    const std::uint64_t before = done;
    for (unsigned i = 0; i < collector->area_count; ++i) {
      const AreaRecord& area = *collector->areas[i];
      const std::uint64_t covered = area.offset + (area.end - area.start);
      if (!shows(*collector, area, object) || area.offset > done || covered <= done) continue;
      const std::uint64_t until = covered < end ? covered : end;
      if (!keep_shared_memory(collector, area.start + (done - area.offset), done, until - done)) return 0;
      done = until;
    }
    if (done == before) return 0;
  }
  return add_segment_content(collector, static_cast<std::int32_t>(object.inode), size, first_piece);
}

void add_record(Collector* collector, const SystemVEntry& entry, std::uint32_t content) {
  auto* record = collector->add_record<format::SegmentRecord>(format::RecordType::kSegment);
  if (record != nullptr) *record = {entry.object, entry.size, content, 0};
}

bool keep_detached(Collector* collector, const SystemVEntry& entry, bool is_certain) {
  const auto attached = sys::call(__NR_shmat, entry.object.id, 0, kReadOnly);
  if (attached.failed()) {
    if (!is_certain) return true;
    refuse_object(collector, entry).add("it can't be read: ").add(sys::error_text(attached.error()));
    return false;
  }
  const unsigned first_piece = collector->piece_count;
  const std::uint64_t size = format::align_up(entry.size, format::kPageSize);
  const bool is_kept = keep_shared_memory(collector, static_cast<std::uint64_t>(attached.value()), 0, size);
  sys::call(__NR_shmdt, attached.value()).ignore();
  const std::uint32_t content = is_kept ? add_segment_content(collector, entry.object.id, entry.size, first_piece) : 0;
  if (content == 0) {
    refuse_object(collector, entry).add("there is no memory to copy it; if the job does not need it, remove it: ipcrm -m ");
    collector->message->add_signed(entry.object.id);
    return false;
  }
  add_record(collector, entry, content);
  return true;
}

}  // namespace

bool collect_segment(Collector* collector, const CollectedObject& object) {
  const auto id = static_cast<std::int32_t>(object.inode);
  SystemVEntry entry;
  if (!find_object(SystemVKind::kSegment, id, &entry)) {
    collector->refuse().add("memory at 0x").add_hex(object.address).add(" (").add(object.path);
    collector->message->add("): this System V shared memory is of another IPC namespace");
    return false;
  }
  if (!is_in_own_namespace(*collector) && count_attachments(*collector, id) < entry.count)
    return refuse_shared(collector, entry, 0);
  format::MemoryObjectRecord facts{object.device, object.inode, entry.size, object.kind, 0, entry.object.mode & 0777U, 0, 0, 0};
  facts.path_size = static_cast<std::uint32_t>(strlen(object.path) + 1);
  auto* record = collector->add_record<format::MemoryObjectRecord>(format::RecordType::kMemoryObject, facts.path_size, object.path);
  if (record != nullptr) *record = facts;
  if (!claim_file(collector, object.device, object.inode)) return true;
  const std::uint32_t content = keep_attached(collector, object, entry.size);
  if (content == 0) {
    refuse_object(collector, entry).add("a part of it is not mapped, or there is no memory to copy it");
    return false;
  }
  add_record(collector, entry, content);
  return true;
}

bool collect_detached_segments(Collector* collector) {
  SystemVTable table(SystemVKind::kSegment);
  for (SystemVEntry entry; table.next(&entry);) {
    int stranger = 0;
    const Owner owner = owner_of(*collector, entry, {}, &stranger);
    if (owner == Owner::kOthers) continue;
    if (entry.count == 0) {
      if (!keep_detached(collector, entry, owner == Owner::kJob)) return false;
    } else if (owner == Owner::kJob && count_attachments(*collector, entry.object.id) < entry.count) {
      return refuse_shared(collector, entry, stranger);
    }
  }
  return true;
}

void hide_segments_from_fork(const Collector& collector, bool is_hidden) {
  for (unsigned i = 0; i < collector.area_count; ++i) {
    const AreaRecord& area = *collector.areas[i];
    const bool is_segment = area.kind == AreaKind::kSharedObject && collector.objects[area.file].kind == ObjectKind::kSegment;
    if (!is_segment || (area.marks & format::kDontFork) != 0) continue;
    sys::call(__NR_madvise, area.start, area.end - area.start, is_hidden ? MADV_DONTFORK : MADV_DOFORK).ignore();
  }
}

}  // namespace ckpt
