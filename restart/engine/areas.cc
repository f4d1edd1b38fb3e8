// Areas: mapped as they were, writable where pages are to be filled in; protected again at the end.
#include "lib/sys/file-facts.h"
#include "restart/engine/engine.h"
#include "restart/engine/segments.h"

namespace ckpt::engine {

namespace {

using format::AreaKind;
using format::HandArea;

constexpr int kDroppableMapping = 8;  // MAP_DROPPABLE, Linux 6.11
constexpr long kMseal = 462;          // Linux 6.10

constexpr std::uint64_t kLargeArea = 1ULL << 30;  // larger ones are not made writable as a whole: the kernel would want the memory

bool is_filled_as_a_whole(const HandArea& area) { return area.has_pages != 0 && area.end - area.start <= kLargeArea; }

int wanted_protection(const HandArea& area) { return is_filled_as_a_whole(area) ? PROT_READ | PROT_WRITE : area.protection; }

// The file that consecutive areas of a library share stays open between them.
struct OpenFile {
  std::uint64_t path = format::kNoPath;
  int mode = O_RDONLY;
  sys::Fd fd;
};

int mode_of(const HandArea& area) {
  const bool is_shared = area.kind == AreaKind::kSharedFile || area.kind == AreaKind::kSharedReadOnly;
  return is_shared && (area.flags & format::kMayWrite) != 0 ? O_RDWR : O_RDONLY;
}

int open_file(const Engine& engine, const HandArea& area, OpenFile* file) {
  const int mode = mode_of(area);
  if (file->path == area.path && file->mode == mode) return file->fd.get();
  const char* path = reinterpret_cast<const char*>(engine.hand) + area.path;
  const auto opened = sys::open(path, mode);
  if (opened.failed()) die(engine, path, opened.error());
  *file = {area.path, mode, sys::Fd(opened)};
  FileFacts facts{};
  if (read_facts(file->fd.get(), "", &facts).failed() || (area.inode != 0 && facts.inode != area.inode))
    die(engine, path, sys::kEbusy);
  return file->fd.get();
}

// MAP_HUGETLB with the size of its pages.
int huge_page_flags(std::uint64_t page_size) {
  constexpr int kShift = 26;  // MAP_HUGE_SHIFT
  return MAP_HUGETLB | __builtin_ctzll(page_size) << kShift;
}

void map_area(const Engine& engine, const HandArea& area, OpenFile* file) {
  int flags = MAP_FIXED_NOREPLACE;
  int fd = -1;
  int protection = wanted_protection(area);
  switch (area.kind) {
    case AreaKind::kVdso:
    case AreaKind::kVvar:
    case AreaKind::kVvarClock:
      return;
    case AreaKind::kAnonymous:
      flags |= MAP_ANONYMOUS | ((area.marks & format::kDroppable) != 0 ? kDroppableMapping : MAP_PRIVATE);
      if ((area.flags & format::kGrowsDown) != 0) flags |= MAP_GROWSDOWN;
      if ((area.flags & format::kNoReserve) != 0) flags |= MAP_NORESERVE;
      if ((area.marks & format::kReservedPool) != 0) flags |= huge_page_flags(area.file_offset);
      break;
    case AreaKind::kPrivateFile:
      flags |= MAP_PRIVATE;
      fd = open_file(engine, area, file);
      break;
    case AreaKind::kPrivateObject:
      flags |= MAP_PRIVATE | ((area.flags & format::kNoReserve) != 0 ? MAP_NORESERVE : 0);
      fd = list<format::HandObject>(engine, engine.hand->objects)[area.object].fd;
      break;
    case AreaKind::kSharedReadOnly:
    case AreaKind::kSharedFile:
      flags |= MAP_SHARED;
      fd = open_file(engine, area, file);
      break;
    case AreaKind::kAioRing:
    case AreaKind::kSharedObject:  // its place is kept free until all others have theirs
      flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      protection = PROT_NONE;
      break;
    case AreaKind::kControl:
      flags |= MAP_SHARED;
      fd = engine.hand->control_fd;
      protection = area.protection;
      break;
  }
  const auto mapped = sys::map(area.start, area.end - area.start, protection, flags, fd, fd < 0 ? 0 : area.file_offset);
  if (mapped.failed() || static_cast<std::uint64_t>(mapped.value()) != area.start)
    die_at(engine, "cannot map", area.start, mapped.error());
}

void advise(const Engine& engine, const HandArea& area, int advice) {
  const auto result = sys::call(__NR_madvise, area.start, area.end - area.start, advice);
  if (result.failed() && result.error() != sys::kEinval) die_at(engine, "cannot advise", area.start, result.error());
}

bool is_of_kernel(const HandArea& area) {
  return area.kind == AreaKind::kVdso || area.kind == AreaKind::kVvar || area.kind == AreaKind::kVvarClock;
}

void advise_all(const Engine& engine, const HandArea& area) {
  if (is_of_kernel(area) || area.kind == AreaKind::kControl || area.kind == AreaKind::kAioRing) return;
  constexpr int kSetVma = 0x53564d41;  // PR_SET_VMA; kernels without names for memory don't know it
  if (area.name != format::kNoPath) {
    const std::uint64_t name = reinterpret_cast<std::uint64_t>(engine.hand) + area.name;
    sys::call(__NR_prctl, kSetVma, 0 /* PR_SET_VMA_ANON_NAME */, area.start, area.end - area.start, name).ignore();
  }
  if ((area.flags & format::kHugePage) != 0) advise(engine, area, MADV_HUGEPAGE);
  if ((area.flags & format::kNoHugePage) != 0) advise(engine, area, MADV_NOHUGEPAGE);
  if ((area.flags & format::kDontDump) != 0) advise(engine, area, MADV_DONTDUMP);
  if ((area.marks & format::kMergeable) != 0) advise(engine, area, MADV_MERGEABLE);
  if ((area.marks & format::kRandomAccess) != 0) advise(engine, area, MADV_RANDOM);
  if ((area.marks & format::kSequentialAccess) != 0) advise(engine, area, MADV_SEQUENTIAL);
  if ((area.marks & format::kDontFork) != 0) advise(engine, area, MADV_DONTFORK);
  if ((area.marks & format::kWipeOnFork) != 0) advise(engine, area, MADV_WIPEONFORK);
}

// Anonymous shared memory exists as a mapping only: this one, which goes when the areas that show it are there and full.
void make_object(Engine* engine, std::uint64_t number) {
  const format::HandObject& object = list<format::HandObject>(*engine, engine->hand->objects)[number];
  if (object.fd >= 0 || object.segment >= 0) return;
  const int flags = MAP_SHARED | MAP_ANONYMOUS | ((object.flags & format::kNoReserve) != 0 ? MAP_NORESERVE : 0);
  auto mapped = sys::map(0, object.size, PROT_READ | PROT_WRITE, flags);
  if (!mapped.failed() && object.span > object.size)
    mapped = sys::call(__NR_mremap, mapped.value(), object.size, object.span, 1 /* MAYMOVE */);
  if (mapped.failed()) die(*engine, "cannot map shared memory", mapped.error());
  engine->objects[number] = static_cast<std::uint64_t>(mapped.value());
}

// Without the right to make it writable later, the area has to come from a descriptor without it, too.
sys::SysResult map_from_descriptor(const HandArea& area, int fd) {
  sys::Text<64> path;
  path.add("/proc/self/fd/").add_signed(fd);
  const sys::Fd reader((area.flags & format::kMayWrite) == 0 ? sys::open(path.c_str(), O_RDONLY) : sys::SysResult(-1));
  const int from = reader.is_open() ? reader.get() : fd;
  const int flags = MAP_SHARED | MAP_FIXED | ((area.flags & format::kNoReserve) != 0 ? MAP_NORESERVE : 0);
  return sys::map(area.start, area.end - area.start, area.protection, flags, from, area.file_offset);
}

void map_object_area(const Engine& engine, const HandArea& area, SegmentMapper* segments) {
  constexpr int kMove = 1 | 2;  // MAYMOVE | FIXED; an old size of zero leaves the old mapping where it is
  const format::HandObject& object = list<format::HandObject>(engine, engine.hand->objects)[area.object];
  if (object.segment >= 0) {
    segments->map(engine, area, object.segment);
    return advise_all(engine, area);
  }
  const std::uint64_t size = area.end - area.start;
  auto result = object.fd >= 0 ? map_from_descriptor(area, object.fd)
                               : sys::call(__NR_mremap, engine.objects[area.object] + area.file_offset, 0, size, kMove, area.start);
  if (!result.failed() && object.fd < 0) result = sys::protect(area.start, size, area.protection);
  if (result.failed()) die_at(engine, "cannot map shared memory at", area.start, result.error());
  advise_all(engine, area);
}

}  // namespace

void map_objects(Engine* engine) {
  for (std::uint64_t i = 0; i < engine->hand->objects.count; ++i) make_object(engine, i);
  const auto* areas = list<HandArea>(*engine, engine->hand->areas);
  SegmentMapper segments;
  for (std::uint64_t i = 0; i < engine->hand->areas.count; ++i) {
    if (areas[i].kind == AreaKind::kSharedObject) map_object_area(*engine, areas[i], &segments);
  }
  segments.release();
  auto* extents = const_cast<format::Extent*>(list<format::Extent>(*engine, engine->hand->extents));
  for (std::uint64_t i = 0; i < engine->hand->extents.count; ++i) {
    if (extents[i].frame >= format::kFirstObject) extents[i].start += engine->objects[extents[i].frame - format::kFirstObject];
  }
}

void leave_objects(const Engine& engine) {
  constexpr int kAddSeals = 1033;  // F_ADD_SEALS
  const auto* objects = list<format::HandObject>(engine, engine.hand->objects);
  for (std::uint64_t i = 0; i < engine.hand->objects.count; ++i) {
    if (objects[i].segment >= 0) continue;
    if (objects[i].fd < 0) {
      sys::unmap(engine.objects[i], objects[i].span).ignore();
      continue;
    }
    const auto sealed =
        objects[i].seals == 0 ? sys::SysResult(0) : sys::call(__NR_fcntl, objects[i].fd, kAddSeals, objects[i].seals);
    if (sealed.failed()) die(engine, "cannot seal a memory file", sealed.error());
    sys::close(objects[i].fd);
  }
}

void map_areas(Engine* engine) {
  const auto* areas = list<HandArea>(*engine, engine->hand->areas);
  OpenFile file;
  for (std::uint64_t i = 0; i < engine->hand->areas.count; ++i) {
    map_area(*engine, areas[i], &file);
    if (areas[i].kind != AreaKind::kSharedObject) advise_all(*engine, areas[i]);
  }
}

void protect_areas(const Engine& engine) {
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    const HandArea& area = areas[i];
    if (!format::has_own_pages(area.kind) || area.has_pages == 0 || area.protection == (PROT_READ | PROT_WRITE)) continue;
    const auto result = sys::protect(area.start, area.end - area.start, area.protection);
    if (result.failed()) die_at(engine, "cannot protect", area.start, result.error());
  }
}

namespace {

// As high as it goes: that of the program, or of the restart.
void raise_lock_limit(const Engine& engine) {
  constexpr std::uint32_t kLockLimit = 8;  // RLIMIT_MEMLOCK
  std::uint64_t now[2]{};                  // soft, hard
  if (sys::call(__NR_prlimit64, 0, kLockLimit, nullptr, now).failed()) return;
  std::uint64_t highest = now[1];
  const auto* limits = list<format::LimitRecord>(engine, engine.hand->limits);
  for (std::uint64_t i = 0; i < engine.hand->limits.count; ++i) {
    if (limits[i].resource == kLockLimit && limits[i].hard > highest) highest = limits[i].hard;
  }
  const std::uint64_t choices[]{highest, now[1]};
  for (const std::uint64_t hard : choices) {
    const std::uint64_t wanted[2]{hard, hard};
    if (!sys::call(__NR_prlimit64, 0, kLockLimit, wanted, nullptr).failed()) return;
  }
}

}  // namespace

void lock_areas(const Engine& engine) {
  raise_lock_limit(engine);
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    const HandArea& area = areas[i];
    if ((area.marks & format::kLocked) == 0) continue;
    const int flags = (area.marks & format::kLockedOnFault) != 0 ? MLOCK_ONFAULT : 0;
    const auto locked = sys::call(__NR_mlock2, area.start, area.end - area.start, flags);
    // What can't be touched, or lies behind the end of its file, is locked all the same.
    if (locked.failed() && locked.error() != sys::kEnomem)
      die_at(engine, "cannot lock memory (see RLIMIT_MEMLOCK) at", area.start, locked.error());
  }
  if (engine.hand->future_locks == 0) return;
  const auto locked = sys::call(__NR_mlockall, engine.hand->future_locks);
  if (locked.failed()) die(engine, "cannot lock memory (see RLIMIT_MEMLOCK)", locked.error());
}

void seal_areas(const Engine& engine) {
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    if ((areas[i].marks & format::kSealed) == 0 || is_of_kernel(areas[i])) continue;
    const auto sealed = sys::call(kMseal, areas[i].start, areas[i].end - areas[i].start, 0);
    if (sealed.failed()) die_at(engine, "cannot seal memory at", areas[i].start, sealed.error());
  }
}

std::span<std::uint8_t> place_kernel_areas(const Engine& engine) {
  if (engine.hand->old_vdso != 0) return replace_vdso(engine);
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    const HandArea& area = areas[i];
    if (!is_of_kernel(area)) continue;
    const KernelArea* own = nullptr;
    for (unsigned k = 0; k < engine.kernel_area_count; ++k) {
      if (engine.kernel_areas[k].kind == area.kind) own = &engine.kernel_areas[k];
    }
    if (own == nullptr || own->size != area.end - area.start)
      die(engine, "this kernel's vdso differs from the one of the image", 0);
    const auto moved = sys::call(__NR_mremap, own->start, own->size, own->size, 1 | 2 /* MAYMOVE | FIXED */, area.start);
    if (moved.failed()) die_at(engine, "cannot move the vdso to", area.start, moved.error());
  }
  return {};
}

}  // namespace ckpt::engine
