// The restorer's main: from its own fresh address space to the program's. See engine.h for the steps.
#include "restart/engine/engine.h"

#include <linux/elf.h>

#include "lib/sys/proc-file.h"

extern "C" {
extern const char __ehdr_start[];
extern char _end[];
[[gnu::visibility("hidden")]] extern const Elf64_Dyn _DYNAMIC[];
}

namespace ckpt::engine {

namespace {

using format::AreaKind;
using format::HandArea;
using format::kPageSize;

constexpr std::uint64_t kTopOfMemory = 0x7ffffffff000;
constexpr std::uint64_t kLowest = 0x10000;

AreaKind kind_of_kernel_area(const char* line) {
  if (sys::ends_with(line, "[vdso]")) return AreaKind::kVdso;
  if (sys::ends_with(line, "[vvar]")) return AreaKind::kVvar;
  if (sys::ends_with(line, "[vvar_vclock]")) return AreaKind::kVvarClock;
  return AreaKind::kAnonymous;
}

struct OwnMap {
  static constexpr unsigned kMax = 256;
  Range ranges[kMax];
  unsigned count = 0;
};

// Everything mapped now; the kernel's areas go into the engine's list, not into `map`.
void read_own_map(Engine* engine, OwnMap* map, char* buffer, std::size_t size) {
  sys::LineReader lines("/proc/self/maps", {buffer, size});
  if (!lines.is_open()) die(*engine, "cannot read /proc/self/maps", 0);
  engine->kernel_area_count = 0;
  for (const char* line = lines.next(); line != nullptr; line = lines.next()) {
    const AreaKind kind = kind_of_kernel_area(line);
    const char* at = line;
    const std::uint64_t begin = sys::parse_hex(&at);
    ++at;
    const std::uint64_t end = sys::parse_hex(&at);
    if (begin >= kTopOfMemory) continue;  // [vsyscall]
    if (kind != AreaKind::kAnonymous && engine->kernel_area_count < kMaxKernelAreas) {
      engine->kernel_areas[engine->kernel_area_count++] = {kind, begin, end - begin};
    } else if (map->count < OwnMap::kMax) {
      map->ranges[map->count++] = {begin, end};
    }
  }
}

bool overlaps(const Range& a, const Range& b) { return a.begin < b.end && b.begin < a.end; }

// Whether [begin, begin + size) meets an area of the program or of ours; *next is where to try next.
bool is_taken(const Engine& engine, const OwnMap& map, Range wanted, std::uint64_t* next) {
  constexpr std::uint64_t kGuard = 1U << 20;  // a stack may want to grow
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    const std::uint64_t room = (areas[i].flags & format::kGrowsDown) != 0 ? 64 * kGuard : kGuard;
    if (!overlaps(wanted, {areas[i].start - (areas[i].start > room ? room : 0), areas[i].end + kGuard})) continue;
    *next = areas[i].end + kGuard;
    return true;
  }
  for (unsigned i = 0; i < map.count; ++i) {
    if (!overlaps(wanted, map.ranges[i])) continue;
    *next = map.ranges[i].end;
    return true;
  }
  for (unsigned i = 0; i < engine.kernel_area_count; ++i) {
    const KernelArea& area = engine.kernel_areas[i];
    if (!overlaps(wanted, {area.start, area.start + area.size})) continue;
    *next = area.start + area.size;
    return true;
  }
  return false;
}

std::uint64_t find_hole(const Engine& engine, const OwnMap& map, std::uint64_t size) {
  std::uint64_t at = 0x100000000;  // above what 32-bit pointers of the program may mean
  while (at + size < kTopOfMemory) {
    std::uint64_t next = 0;
    if (!is_taken(engine, map, {at, at + size}, &next)) return at;
    at = format::align_up(next > at ? next : at + kPageSize, kPageSize);
  }
  die(engine, "no hole in the address space for the restorer", sys::kEnomem);
}

// In the hole, on its stack: what is not ours any more goes.
void empty_address_space(Engine* engine) {
  OwnMap map;
  static_assert(sizeof(OwnMap) < kStackSize / 4);
  char buffer[8192];
  read_own_map(engine, &map, buffer, sizeof(buffer));
  for (unsigned i = 0; i < map.count; ++i) {
    const Range& range = map.ranges[i];
    if (range.begin >= engine->hole.begin && range.end <= engine->hole.end) continue;
    const auto result = sys::unmap(range.begin, range.end - range.begin);
    if (result.failed()) die_at(*engine, "cannot unmap", range.begin, result.error());
  }
  std::uint64_t parking = engine->parking;
  for (unsigned i = 0; i < engine->kernel_area_count; ++i) {
    KernelArea* area = &engine->kernel_areas[i];
    const auto moved = sys::call(__NR_mremap, area->start, area->size, area->size, 1 | 2 /* MAYMOVE | FIXED */, parking);
    if (moved.failed()) die_at(*engine, "cannot park the vdso at", parking, moved.error());
    area->start = parking;
    parking += area->size;
  }
}

void rebuild(void* argument) {
  auto* engine = static_cast<Engine*>(argument);
  empty_address_space(engine);
  map_areas(engine);
  map_objects(engine);
  make_aio_rings(*engine);
  fill_pages(engine);
  leave_objects(*engine);
  engine->vdso_copy = place_kernel_areas(*engine);
  protect_areas(*engine);
  prepare_translation(*engine);
  set_process_state(*engine);
  lock_areas(*engine);
  seal_areas(*engine);
  set_limits(*engine);  // what is locked may be more than may be locked now
  start_threads(engine);
}

std::uint64_t file_size(int fd) {
  const auto size = sys::call(__NR_lseek, fd, 0, 2 /* SEEK_END */);
  return size.failed() ? 0 : static_cast<std::uint64_t>(size.value());
}

// Pointers in the data of the copy (tables of the compression libraries) must point into the copy.
void relocate_copy(std::uint64_t own, std::uint64_t copy) {
  std::uint64_t table = 0;
  std::uint64_t size = 0;
  for (const Elf64_Dyn* entry = _DYNAMIC; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_RELA) table = entry->d_un.d_ptr;
    if (entry->d_tag == DT_RELASZ) size = entry->d_un.d_val;
  }
  const auto* relocations = reinterpret_cast<const Elf64_Rela*>(own + table);
  for (std::uint64_t i = 0; i < size / sizeof(Elf64_Rela); ++i) {
    *reinterpret_cast<std::uint64_t*>(copy + relocations[i].r_offset) = copy + static_cast<std::uint64_t>(relocations[i].r_addend);
  }
}

// Copies code, hand-over and state into a hole of both maps and goes on there.
[[noreturn]] void move_into_hole(Engine* engine, int hand_fd, std::uint64_t hand_size) {
  OwnMap map;
  char buffer[8192];
  read_own_map(engine, &map, buffer, sizeof(buffer));
  const auto own = reinterpret_cast<std::uint64_t>(__ehdr_start);
  const std::uint64_t own_size = format::align_up(reinterpret_cast<std::uint64_t>(_end) - own, kPageSize);
  const std::uint64_t hand_room = format::align_up(hand_size, kPageSize);
  const std::uint64_t threads = engine->hand->threads.count * kThreadStackSize;
  const std::uint64_t workers = kMaxWorkers * kWorkerMemory;
  const std::uint64_t objects = format::align_up(engine->hand->objects.count * sizeof(std::uint64_t), kPageSize);
  const std::uint64_t size = own_size + hand_room + kPageSize + kStackSize + kParkingSize + workers + objects + threads;
  const std::uint64_t hole = find_hole(*engine, map, size);
  const auto mapped =
      sys::map(hole, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE);
  if (mapped.failed()) die_at(*engine, "cannot map the restorer at", hole, mapped.error());
  memcpy(reinterpret_cast<void*>(hole), __ehdr_start, reinterpret_cast<std::uint64_t>(_end) - own);
  relocate_copy(own, hole);
  std::uint64_t at = hole + own_size;
  auto* hand = reinterpret_cast<format::HandOver*>(at);
  const auto count = sys::pread_all(hand_fd, hand, hand_size, 0);
  if (count.failed() || static_cast<std::uint64_t>(count.value()) != hand_size)
    die(*engine, "cannot read the hand-over", count.error());
  sys::close(hand_fd);
  at += hand_room;
  auto* there = reinterpret_cast<Engine*>(at);
  *there = *engine;
  there->hand = hand;
  there->hole = {hole, hole + size};
  at += kPageSize;
  there->stack_top = at + kStackSize;
  at += kStackSize;
  there->parking = at;
  at += kParkingSize;
  there->worker_memory = at;
  at += workers;
  there->objects = reinterpret_cast<std::uint64_t*>(at);
  at += objects;
  there->thread_stacks = at;
  const auto function = reinterpret_cast<std::uint64_t>(rebuild) - own + hole;
  engine_move(there, reinterpret_cast<void (*)(void*)>(function), reinterpret_cast<void*>(there->stack_top));
}

}  // namespace

void die(const Engine& engine, const char* what, int error) {
  sys::Text<512> line;
  line.add(what);
  if (error != 0) line.add(": ").add(sys::error_text(error)).add(" (errno ").add_signed(error).add(")");
  line.add_char('\n');
  if (engine.hand != nullptr) sys::write_all(engine.hand->report_fd, line.c_str(), line.size()).ignore();
  for (;;) sys::call(__NR_exit_group, 125).ignore();
}

void die_at(const Engine& engine, const char* what, std::uint64_t address, int error) {
  sys::Text<256> line;
  line.add(what).add(" 0x").add_hex(address);
  die(engine, line.c_str(), error);
}

}  // namespace ckpt::engine

// argv[1] is the number of the hand-over's descriptor.
extern "C" [[noreturn, gnu::visibility("hidden")]] void engine_main(const std::uint64_t* stack) {
  using namespace ckpt;
  engine::Engine engine{};
  if (stack[0] < 2) engine::die(engine, "not to be run by hand", 0);
  const auto* text = reinterpret_cast<const char*>(stack[2]);
  const int hand_fd = static_cast<int>(sys::parse_decimal(&text));
  const std::uint64_t size = engine::file_size(hand_fd);
  const auto mapped = sys::map(0, size, PROT_READ, MAP_PRIVATE, hand_fd);
  if (size < sizeof(format::HandOver) || mapped.failed()) engine::die(engine, "cannot map the hand-over", mapped.error());
  engine.hand = reinterpret_cast<const format::HandOver*>(mapped.value());
  if (memcmp(engine.hand->magic, format::kHandOverMagic, sizeof(engine.hand->magic)) != 0 ||
      engine.hand->version != format::kHandOverVersion) {
    engine.hand = nullptr;
    engine::die(engine, "the hand-over is of another version", 0);
  }
  engine::move_into_hole(&engine, hand_fd, size);
}
