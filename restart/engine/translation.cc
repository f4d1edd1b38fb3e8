// Numbers that could not be had again, and clocks that are behind: the program goes on with what it knows, and every system call of
// its libraries that has to do with them is led through the translator of its libckpt.so (lib/runtime/translator.cc), by a jump to
// a stub close by.
//
// What was led there by an earlier restart of the same job still is: its code is in the image.
#include "lib/format/numbers.h"
#include "lib/sys/arch/x86_64/call-sites.h"
#include "lib/sys/pid-calls.h"
#include "lib/sys/time-calls.h"
#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::AreaKind;
using format::HandArea;
using format::kPageSize;
using format::NumberPair;
using format::NumberTable;
using format::ShiftNote;
using format::Translation;
using format::TranslatorNote;

constexpr std::uint64_t kLowest = 0x10000;                      // of what may be mapped, as a rule (vm.mmap_min_addr)
constexpr std::uint64_t kReach = (2ULL << 30) - (64ULL << 20);  // of a jump, with room for the area's own size

using Code = std::span<std::uint8_t>;

using Choice = bool (*)(std::uint32_t);

bool is_of_processes(std::uint32_t number) { return sys::find_pid_call(number) != nullptr; }
bool is_of_clocks(std::uint32_t number) { return sys::is_time_call(number); }
bool is_of_either(std::uint32_t number) { return is_of_processes(number) || is_of_clocks(number); }

// Where the calls are led, and which.
struct Route {
  std::uint64_t translator;
  Choice is_wanted;
};

// Of the program's libckpt.so; nullptr: that of an older version.
const TranslatorNote* find_note(const Engine& engine) {
  const auto* note = reinterpret_cast<const TranslatorNote*>(engine.hand->runtime.resume_entry - sizeof(TranslatorNote));
  return note->magic == format::kTranslatorMagic ? note : nullptr;
}

std::uint64_t address_at(const std::int32_t* field) {
  return reinterpret_cast<std::uint64_t>(field) + static_cast<std::uint64_t>(static_cast<std::int64_t>(*field));
}

// Of the program's libckpt.so; nullptr: that of an older version.
Translation* find_translation(const Engine& engine) {
  const auto* note = reinterpret_cast<const ShiftNote*>(engine.hand->runtime.resume_entry - sizeof(TranslatorNote)) - 1;
  if (find_note(engine) == nullptr || note->magic != format::kShiftMagic) return nullptr;
  return reinterpret_cast<Translation*>(address_at(&note->translation));
}

NumberTable** table_of(const TranslatorNote* note) { return reinterpret_cast<NumberTable**>(address_at(&note->numbers)); }

// The code that an area shows of its file: behind the file's end is nothing to read. And the vdso that was replaced.
Code code_of(const Engine& engine, const HandArea& area) {
  if (area.start == engine.hand->old_vdso) return {reinterpret_cast<std::uint8_t*>(area.start), engine.hand->old_vdso_size};
  constexpr int kExecutable = PROT_READ | PROT_EXEC;
  if (area.kind != AreaKind::kPrivateFile || (area.protection & kExecutable) != kExecutable) return {};
  const sys::Fd file(sys::open(reinterpret_cast<const char*>(engine.hand) + area.path, O_RDONLY));
  const auto size = sys::call(__NR_lseek, file.get(), 0, 2 /* SEEK_END */);
  if (size.failed() || static_cast<std::uint64_t>(size.value()) <= area.file_offset) return {};
  const std::uint64_t there = static_cast<std::uint64_t>(size.value()) - area.file_offset;
  const std::uint64_t whole = area.end - area.start;
  return {reinterpret_cast<std::uint8_t*>(area.start), there < whole ? there : whole};
}

std::uint64_t count_sites(Code code, Choice is_wanted) {
  sys::CallSite site{};
  std::uint64_t count = 0;
  for (std::size_t at = 0; sys::find_call_site(code, at, is_wanted, &site); at = site.call) ++count;
  return count;
}

std::uint64_t try_room(std::uint64_t at, std::uint64_t size) {
  const auto mapped = sys::map(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE);
  if (mapped.failed()) return 0;
  const auto got = static_cast<std::uint64_t>(mapped.value());
  if (got == at) return at;
  sys::unmap(got, size).ignore();  // Linux before 4.17 takes the address for a hint
  return 0;
}

// The largest room without memory that a jump from `from` reaches, where nothing grows into it.
Range find_largest_gap(const Engine& engine, const HandArea* areas, const HandArea& from) {
  const std::uint64_t lowest = from.end > kReach + kLowest ? from.end - kReach : kLowest;
  const std::uint64_t highest = from.start + kReach;
  Range largest{};
  std::uint64_t end_before = 0;
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    const Range gap{end_before > lowest ? end_before : lowest, areas[i].start < highest ? areas[i].start : highest};
    const bool is_grown_into = (gap.begin == end_before && end_before == engine.hand->layout.brk) ||
                               (gap.end == areas[i].start && (areas[i].flags & format::kGrowsDown) != 0);
    if (!is_grown_into && gap.end > gap.begin && gap.end - gap.begin > largest.end - largest.begin) largest = gap;
    end_before = areas[i].end;
  }
  return largest;
}

// In the midst of it: a small gap may be a hole that the program has made in what is its own, and will fill or take away again. 0:
// there is no room.
std::uint64_t map_in_largest_gap(const Engine& engine, const HandArea* areas, const HandArea& from, std::uint64_t size) {
  constexpr unsigned kRooms = 1024;  // one below the other
  const Range gap = find_largest_gap(engine, areas, from);
  std::uint64_t at = (gap.begin + (gap.end - gap.begin) / 2) & ~(kPageSize - 1);
  for (unsigned i = 0; i < kRooms && at >= gap.begin + size && at + size <= gap.end; ++i, at -= size) {
    if (const std::uint64_t room = try_room(at, size); room != 0) return room;
  }
  return 0;
}

// Room that a jump from `areas[index]` reaches: there, else below an area, or above one. What grows keeps its room.
std::uint64_t map_near(const Engine& engine, const HandArea* areas, std::uint64_t index, std::uint64_t size) {
  const HandArea& from = areas[index];
  if (const std::uint64_t room = map_in_largest_gap(engine, areas, from, size); room != 0) return room;
  for (std::uint64_t i = index + 1; i-- > 0 && from.end - areas[i].start < kReach;) {
    if ((areas[i].flags & format::kGrowsDown) != 0 || areas[i].start < size) continue;
    if (const std::uint64_t room = try_room(areas[i].start - size, size); room != 0) return room;
  }
  for (std::uint64_t i = index; i < engine.hand->areas.count && areas[i].end - from.start < kReach; ++i) {
    const bool may_grow = areas[i].end == engine.hand->layout.brk;
    if (may_grow) continue;
    if (const std::uint64_t room = try_room(areas[i].end, size); room != 0) return room;
  }
  die_at(engine, "cannot translate process numbers: no room near the code at", from.start, 0);
}

// A thread that was about to make the call makes it through the stub.
void move_threads(const Engine& engine, const sys::CallSite& site, std::uint64_t address, std::uint64_t stub) {
  const auto* threads = list<format::ThreadRecord>(engine, engine.hand->threads);
  for (std::uint64_t i = 0; i < engine.hand->threads.count; ++i) {
    auto* registers = &reinterpret_cast<::ucontext*>(threads[i].context)->uc_mcontext;
    const std::uint64_t place = sys::place_in_stub(site, address, stub, registers->rip);
    if (place == registers->rip) continue;
    registers->rip = place;
    registers->rcx = ~0ULL;  // an address behind the call it stood at means nothing here
  }
}

// The first word of the room is the address of the translator.
void fill_stubs(const Engine& engine, Code code, std::uint64_t room, const Route& route) {
  const auto address = reinterpret_cast<std::uint64_t>(code.data());
  *reinterpret_cast<std::uint64_t*>(room) = route.translator;
  std::uint64_t stub = room + sizeof(route.translator);
  sys::CallSite site{};
  for (std::size_t at = 0; sys::find_call_site(code, at, route.is_wanted, &site); at = site.call) {
    sys::write_stub(code, site, address, reinterpret_cast<std::uint8_t*>(stub), stub, room);
    move_threads(engine, site, address, stub);
    sys::lead_to_stub(code, site, address, stub);
    stub += sys::kStubSize;
  }
}

void lead_code(const Engine& engine, Code code, std::uint64_t room, std::uint64_t room_size, int protection, const Route& route) {
  const auto address = reinterpret_cast<std::uint64_t>(code.data());
  const std::uint64_t size = format::align_up(code.size(), kPageSize);
  auto result = sys::protect(address, size, PROT_READ | PROT_WRITE);
  if (!result.failed()) fill_stubs(engine, code, room, route);
  if (!result.failed()) result = sys::protect(address, size, protection);
  if (!result.failed()) result = sys::protect(room, room_size, PROT_READ | PROT_EXEC);
  if (result.failed()) die_at(engine, "cannot translate system calls in the code at", address, result.error());
}

std::uint64_t room_for(std::uint64_t sites) {
  return format::align_up(sizeof(Route::translator) + sites * sys::kStubSize, kPageSize);
}

void lead_calls(const Engine& engine, const HandArea* areas, std::uint64_t index, const Route& route) {
  const Code code = code_of(engine, areas[index]);
  const std::uint64_t sites = count_sites(code, route.is_wanted);
  if (sites == 0) return;
  const std::uint64_t room = map_near(engine, areas, index, room_for(sites));
  lead_code(engine, code, room, room_for(sites), areas[index].protection, route);
}

void lead_copy_of_vdso(const Engine& engine, const Route& route) {
  const Code code = engine.vdso_copy;
  const std::uint64_t sites = count_sites(code, route.is_wanted);
  if (sites == 0) return;
  if (room_for(sites) != kPageSize) die(engine, "cannot translate system calls in the vdso", 0);
  lead_code(engine, code, reinterpret_cast<std::uint64_t>(code.data()) + code.size(), kPageSize, PROT_READ | PROT_EXEC, route);
}

// Every library and the program itself; but the runtime asks the kernel for what it is.
void lead_all_calls(const Engine& engine, const Route& route) {
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  std::uint64_t own_path = format::kNoPath;
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    if (areas[i].start <= route.translator && route.translator < areas[i].end) own_path = areas[i].path;
  }
  for (std::uint64_t i = 0; i < engine.hand->areas.count; ++i) {
    if (areas[i].path != own_path) lead_calls(engine, areas, i, route);
  }
  lead_copy_of_vdso(engine, route);
}

void sort_pairs(NumberPair* pairs, std::uint64_t count, std::int32_t NumberPair::*key) {
  for (std::uint64_t i = 1; i < count; ++i) {
    const NumberPair pair = pairs[i];
    std::uint64_t at = i;
    for (; at > 0 && pairs[at - 1].*key > pair.*key; --at) pairs[at] = pairs[at - 1];
    pairs[at] = pair;
  }
}

NumberPair* pairs_in_hand(const Engine& engine) { return const_cast<NumberPair*>(list<NumberPair>(engine, engine.hand->numbers)); }

void show_old_number(const NumberTable& before, std::uint64_t number, ::sigcontext* registers) {
  const sys::PidCall* row = sys::find_pid_call(number);
  if (row == nullptr || !row->returns_number) return;
  const auto* pairs = reinterpret_cast<const NumberPair*>(&before + 1);
  for (std::uint32_t k = 0; k < before.count; ++k) {
    if (pairs[k].real == static_cast<std::int64_t>(registers->rax)) registers->rax = static_cast<std::uint64_t>(pairs[k].shown);
  }
}

// Threads that were saved in the translator, in a call as it was then: one that was to be made again is translated again, one that
// has come back reads the old number. (A thread in the translator's own code is not looked at.)
void settle_threads(const Engine& engine, const TranslatorNote& note, const NumberTable* before) {
  const auto* threads = list<format::ThreadRecord>(engine, engine.hand->threads);
  constexpr std::uint64_t kCallSize = 2;
  const std::uint64_t call = address_at(&note.call);
  const std::uint64_t again = address_at(&note.again);
  for (std::uint64_t i = 0; i < engine.hand->threads.count; ++i) {
    auto* registers = &reinterpret_cast<::ucontext*>(threads[i].context)->uc_mcontext;
    if (registers->rip >= again && registers->rip <= call) {
      registers->rip = again;
      registers->rcx = ~0ULL;
    }
    const auto number = [&] { return *reinterpret_cast<const std::uint64_t*>(registers->rsp); };  // TranslatedCall::number
    if (before != nullptr && registers->rip == call + kCallSize) show_old_number(*before, number(), registers);
  }
}

void make_table(const Engine& engine, NumberTable** table) {
  const std::uint64_t count = engine.hand->numbers.count;
  const std::uint64_t size = format::align_up(sizeof(NumberTable) + 2 * count * sizeof(NumberPair), kPageSize);
  const auto* areas = list<HandArea>(engine, engine.hand->areas);
  const HandArea* own = areas;  // of the runtime
  while (reinterpret_cast<std::uint64_t>(table) >= own->end) ++own;
  const std::uint64_t room = map_in_largest_gap(engine, areas, *own, size);
  const auto mapped = sys::map(room, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (room != 0 ? MAP_FIXED : 0));
  if (mapped.failed()) die(engine, "cannot translate process numbers", mapped.error());
  *table = reinterpret_cast<NumberTable*>(mapped.value());
  **table = {size, static_cast<std::uint32_t>(count), 0};
}

}  // namespace

void prepare_translation(const Engine& engine) {
  const TranslatorNote* note = find_note(engine);
  Translation* translation = find_translation(engine);
  const bool has_numbers = engine.hand->numbers.count != 0;
  const bool is_needed = has_numbers || has_shifted_clocks(engine);
  if (note == nullptr && !is_needed) return;
  if (note == nullptr || (translation == nullptr && has_shifted_clocks(engine)))
    die(engine, "cannot translate system calls: the program runs with a libckpt.so that can't", 0);
  NumberTable** table = table_of(note);
  settle_threads(engine, *note, *table);
  if (*table != nullptr) sys::unmap(reinterpret_cast<std::uint64_t>(*table), (*table)->size).ignore();  // of an earlier restart
  *table = nullptr;
  if (translation != nullptr) {
    const Translation before = *translation;
    *translation = engine.hand->translation;
    translation->keeps_locks = before.keeps_locks != 0 || has_numbers ? 1 : 0;
    translation->generation = before.generation + 1;
  }
  if (!is_needed) return;
  lead_all_calls(engine, {address_at(&note->entry), !has_shifted_clocks(engine) ? is_of_processes
                                                    : has_numbers               ? is_of_either
                                                                                : is_of_clocks});
  if (has_numbers) make_table(engine, table);
}

void publish_numbers(const Engine& engine) {
  const std::uint64_t count = engine.hand->numbers.count;
  if (count == 0) return;
  NumberTable* table = *table_of(find_note(engine));
  auto* by_shown = reinterpret_cast<NumberPair*>(table + 1);
  NumberPair* by_real = by_shown + count;
  const NumberPair* pairs = pairs_in_hand(engine);
  for (std::uint64_t i = 0; i < count; ++i) by_shown[i] = by_real[i] = pairs[i];
  sort_pairs(by_shown, count, &NumberPair::shown);
  sort_pairs(by_real, count, &NumberPair::real);
  sys::protect(reinterpret_cast<std::uint64_t>(table), table->size, PROT_READ).ignore();
}

NumberPair* find_new_number(const Engine& engine, std::int32_t shown) {
  NumberPair* pairs = pairs_in_hand(engine);
  for (std::uint64_t i = 0; i < engine.hand->numbers.count; ++i) {
    if (pairs[i].shown == shown) return &pairs[i];
  }
  return nullptr;
}

std::int32_t real_number(const Engine& engine, std::int32_t shown) {
  const NumberPair* pair = find_new_number(engine, shown);
  return pair != nullptr ? pair->real : shown;
}

bool is_number_of_job(const Engine& engine, std::int32_t number) {
  const auto* numbers = list<std::int32_t>(engine, engine.hand->job_numbers);
  for (std::uint64_t i = 0; i < engine.hand->job_numbers.count; ++i) {
    if (numbers[i] == number) return true;
  }
  return false;
}

}  // namespace ckpt::engine
