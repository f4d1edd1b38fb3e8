// memory: what smaps alone knows of areas. Reading it walks all page tables (30 ms for 1 GiB), so it is the writer's business,
// beside the running program. But a fork loses some of it: locks, and all of an area with MADV_DONTFORK or MADV_WIPEONFORK. A
// program that has such areas stands while it is read, and while those areas are copied.
#include "lib/resources/memory/collect.h"

#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::AreaKind;
using format::AreaRecord;
using format::kPageSize;

// VmFlags of /proc/PID/smaps that are put back (proc_pid_smaps(5)).
constexpr struct {
  char name[3];
  std::uint16_t flag;
  std::uint32_t mark;
} kKnownFlags[] = {{"hg", format::kHugePage, 0}, {"nh", format::kNoHugePage, 0},    {"nr", format::kNoReserve, 0},
                   {"dd", format::kDontDump, 0}, {"gd", format::kGrowsDown, 0},     {"mw", format::kMayWrite, 0},
                   {"lo", 0, format::kLocked},   {"lf", 0, format::kLockedOnFault}, {"wf", 0, format::kWipeOnFork},
                   {"dc", 0, format::kDontFork}, {"mg", 0, format::kMergeable},     {"dp", 0, format::kDroppable},
                   {"sl", 0, format::kSealed},   {"rr", 0, format::kRandomAccess},  {"sr", 0, format::kSequentialAccess}};
// … and that stand for a state which can't be.
constexpr struct {
  char name[3];
  const char* meaning;
} kRefusedFlags[] = {{"um", "userfaultfd"}, {"uw", "userfaultfd"}, {"ui", "userfaultfd"}, {"ss", "a shadow stack"}};

constexpr std::uint64_t kEntryPresent = 1ULL << 63, kEntrySwapped = 1ULL << 62, kEntryFile = 1ULL << 61;

bool has_flag(const char* flags, const char* name) {
  for (const char* at = flags; at[0] != '\0' && at[1] != '\0'; ++at) {
    if (at[0] == name[0] && at[1] == name[1] && (at[2] == ' ' || at[2] == '\0')) return true;
    while (*at != ' ' && at[1] != '\0') ++at;
  }
  return false;
}

bool refuse_area(Collector* collector, const AreaRecord& area, const char* meaning) {
  collector->refuse().add("memory at 0x").add_hex(area.start).add(": ").add(meaning).add(" can't be saved");
  return false;
}

// What smaps says of one area before its flags.
struct Facts {
  std::uint64_t begin, end;
  std::uint64_t key;        // of pkey_alloc(2)
  std::uint64_t page_size;  // in bytes
};

bool apply_flags(Collector* collector, AreaRecord* area, const Facts& facts, const char* flags) {
  for (const auto& refused : kRefusedFlags) {
    if (has_flag(flags, refused.name)) return refuse_area(collector, *area, refused.meaning);
  }
  // The kernel itself gives a key to memory that may only be executed.
  if (facts.key != 0 && area->protection != PROT_EXEC) return refuse_area(collector, *area, "a protection key");
  if (!has_flag(flags, "ht")) area->marks &= ~format::kReservedPool;  // that was a guess, by the device
  const bool is_of_pool = (area->marks & format::kReservedPool) != 0;
  if (has_flag(flags, "ht") && !is_of_pool) return refuse_area(collector, *area, "huge pages of the reserved pool");
  if (is_of_pool && format::is_of_object(area->kind)) collector->objects[area->file].page_size = facts.page_size;
  if (is_of_pool && area->kind == AreaKind::kAnonymous) area->offset = facts.page_size;
  for (const auto& known : kKnownFlags) {
    if (!has_flag(flags, known.name)) continue;
    area->flags |= known.flag;
    area->marks |= known.mark;
  }
  return true;
}

// The contents of droppable memory may go at any time: what a fork does to it is nothing that it does not expect.
bool is_lost_in_fork(const AreaRecord& area) {
  const bool is_wiped = (area.marks & format::kWipeOnFork) != 0 && (area.marks & format::kDroppable) == 0;
  return is_wiped || (area.marks & (format::kDontFork | format::kReservedPool)) != 0;
}

// A writer that waits for a page of the pool, which has none left, would be killed.
bool has_reserved_pool(const Collector& collector) {
  for (unsigned i = 0; i < collector.area_count; ++i) {
    if ((collector.areas[i]->marks & format::kReservedPool) != 0) return true;
  }
  return false;
}

// Takes a line apart; true at the flags, which come last of an area.
bool parse_line(const char* line, Facts* facts) {
  if (sys::starts_with(line, "VmFlags: ")) return true;
  if (sys::starts_with(line, "KernelPageSize:")) {
    line += 15;
    sys::skip_spaces(&line);
    facts->page_size = sys::parse_decimal(&line) * 1024;
  } else if (sys::starts_with(line, "ProtectionKey:")) {
    line += 14;
    sys::skip_spaces(&line);
    facts->key = sys::parse_decimal(&line);
  } else if ((line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f')) {
    facts->begin = sys::parse_hex(&line);
    ++line;
    facts->end = sys::parse_hex(&line);
    facts->key = 0;
  }
  return false;
}

// Copies the area's own pages to where the writer will find them.
bool copy_pages(const AreaRecord& area, std::uint64_t copy) {
  constexpr std::uint64_t kEntries = 256;
  const sys::Fd map(sys::open("/proc/self/pagemap", O_RDONLY));
  const sys::Fd memory(sys::open("/proc/self/mem", O_RDONLY));
  std::uint64_t entries[kEntries];
  const bool is_all = (area.flags & format::kFileGone) != 0;
  for (std::uint64_t page = area.start; page < area.end; page += kEntries * kPageSize) {
    const std::uint64_t left = (area.end - page) / kPageSize;
    const std::uint64_t count = left < kEntries ? left : kEntries;
    const auto got = sys::pread_all(map.get(), entries, count * sizeof(entries[0]), page / kPageSize * sizeof(entries[0]));
    if (got.failed() || static_cast<std::uint64_t>(got.value()) != count * sizeof(entries[0])) return false;
    for (std::uint64_t i = 0; i < count; ++i) {
      const bool is_own = (entries[i] & (kEntryPresent | kEntrySwapped)) != 0 && (entries[i] & kEntryFile) == 0;
      if (!is_own && !is_all) continue;
      const std::uint64_t from = page + i * kPageSize;
      auto* to = reinterpret_cast<std::uint8_t*>(copy + (from - area.start));
      const auto read = sys::pread(memory.get(), to, kPageSize, from);
      if (!is_all && (read.failed() || read.value() != static_cast<long>(kPageSize))) return false;
    }
  }
  return true;
}

bool keep_area(Collector* collector, const AreaRecord& area) {
  if (!format::has_own_pages(area.kind)) return true;  // its bytes are elsewhere
  const std::uint64_t size = area.end - area.start;
  const auto room = sys::map(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (room.failed() || collector->chunk_count == kMaxChunksOfCopies)
    return refuse_area(collector, area, "memory that a fork leaves out is too large: it");
  const auto copy = static_cast<std::uint64_t>(room.value());
  collector->chunks[collector->chunk_count++] = {copy, copy + size};
  collector->stand_ins[collector->stand_in_count++] = {area.start, copy, size};
  return copy_pages(area, copy) || refuse_area(collector, area, "memory that can't be read");
}

// Locked memory can't be given back (madvise(2)).
bool is_locked(std::uint64_t page) { return sys::call(__NR_madvise, page, kPageSize, MADV_DONTNEED).error() == sys::kEinval; }

void note_future_locks(Collector* collector, const char* flags) {
  if (!has_flag(flags, "lo")) return;
  auto* record = collector->add_record<format::MemoryLocksRecord>(format::RecordType::kMemoryLocks);
  if (record != nullptr) record->future = MCL_FUTURE | (has_flag(flags, "lf") ? MCL_ONFAULT : 0);
}

}  // namespace

FlagsOutcome read_area_flags(Collector* collector, std::uint64_t probe) {
  constexpr std::size_t kBuffer = 65536;
  auto* buffer = collector->arena->take_array<char>(kBuffer);
  sys::LineReader smaps("/proc/thread-self/smaps", {buffer, buffer == nullptr ? 0 : kBuffer});
  if (buffer == nullptr || !smaps.is_open()) {
    collector->refuse(kCodeFailed).add("its memory map can't be read");
    return FlagsOutcome::kRefused;
  }
  unsigned next = 0;  // area that is looked for
  Facts facts{};
  FlagsOutcome outcome = FlagsOutcome::kDone;
  for (const char* line = smaps.next(); line != nullptr; line = smaps.next()) {
    if (!parse_line(line, &facts)) continue;
    if (probe != 0 && facts.begin <= probe && probe < facts.end) note_future_locks(collector, line + 9);
    // An area of ours may be a part of one here (our scratch memory beside it), never the other way round.
    for (; next < collector->area_count && collector->areas[next]->start < facts.end; ++next) {
      AreaRecord* area = collector->areas[next];
      if (area->start >= facts.begin && !apply_flags(collector, area, facts, line + 9)) return FlagsOutcome::kRefused;
      if (area->start < facts.begin || is_lost_in_fork(*area)) outcome = FlagsOutcome::kMustStand;
    }
  }
  return next == collector->area_count ? outcome : FlagsOutcome::kMustStand;
}

// Segments are kept out of the fork, so the writer does not find them.
bool has_segments(const Collector& collector) {
  for (unsigned i = 0; i < collector.object_count; ++i) {
    if (collector.objects[i].kind == format::ObjectKind::kSegment) return true;
  }
  return false;
}

bool collect_area_flags(Collector* collector) {
  // If this is locked, so is all that comes (mlockall(2)).
  const auto page = sys::map(0, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
  const std::uint64_t probe = page.failed() ? 0 : static_cast<std::uint64_t>(page.value());
  const bool has_locks = collector->has_locked_memory || (probe != 0 && is_locked(probe));
  bool is_done = true;
  if (collector->must_stand_for_flags || has_reserved_pool(*collector) || has_locks || has_segments(*collector)) {
    collector->stand_ins = collector->arena->take_array<StandIn>(kMaxChunksOfCopies);
    is_done = collector->stand_ins != nullptr && read_area_flags(collector, probe) != FlagsOutcome::kRefused;
    for (unsigned i = 0; is_done && i < collector->area_count; ++i) {
      if (is_lost_in_fork(*collector->areas[i])) is_done = keep_area(collector, *collector->areas[i]);
    }
    collector->has_flags = is_done;
  }
  if (probe != 0) sys::unmap(probe, kPageSize).ignore();
  return is_done;
}

}  // namespace ckpt
