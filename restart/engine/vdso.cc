// The vdso of another kernel: the program has its addresses in its libc, so it stays where it was, as ordinary memory, and each of
// its functions begins with a jump to that of this kernel's vdso, or with the system call. Its data pages read as zeros, which
// tells its code to ask the kernel. A thread that stood inside it goes on in a copy without the jumps. Where clocks are put
// forward, this kernel's own is treated as another one's: it would tell the machine's time.
#include <linux/elf.h>

#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

struct Elf {
  std::uint64_t base, size;
  const Elf64_Sym* symbols;
  std::uint64_t symbol_count;
  const char* names;
  std::uint64_t names_size;
};

bool is_inside(const Elf& elf, std::uint64_t offset, std::uint64_t size) { return offset <= elf.size && size <= elf.size - offset; }

const Elf64_Phdr* find_segment(const Elf& elf, std::uint32_t type) {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(elf.base);
  if (elf.size < sizeof(*header) || !is_inside(elf, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr))) return nullptr;
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(elf.base + header->e_phoff);
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == type && is_inside(elf, segments[i].p_offset, segments[i].p_filesz)) return &segments[i];
  }
  return nullptr;
}

// The symbol table, checked to lie inside: the bytes of the old one come from an image.
bool open_elf(std::uint64_t base, std::uint64_t size, Elf* elf) {
  *elf = {base, size, nullptr, 0, nullptr, 0};
  const Elf64_Phdr* dynamic = find_segment(*elf, PT_DYNAMIC);
  if (dynamic == nullptr) return false;
  const auto* entries = reinterpret_cast<const Elf64_Dyn*>(base + dynamic->p_offset);
  std::uint64_t symbols = 0;
  std::uint64_t names = 0;
  for (std::uint64_t i = 0; i < dynamic->p_filesz / sizeof(*entries) && entries[i].d_tag != DT_NULL; ++i) {
    if (entries[i].d_tag == DT_SYMTAB) symbols = entries[i].d_un.d_ptr;
    if (entries[i].d_tag == DT_STRTAB) names = entries[i].d_un.d_ptr;
    if (entries[i].d_tag == DT_STRSZ) elf->names_size = entries[i].d_un.d_val;
  }
  // The names follow the symbols: as the kernel's linker script has it.
  if (symbols == 0 || names <= symbols || !is_inside(*elf, names, elf->names_size) || elf->names_size == 0) return false;
  elf->symbols = reinterpret_cast<const Elf64_Sym*>(base + symbols);
  elf->symbol_count = (names - symbols) / sizeof(Elf64_Sym);
  elf->names = reinterpret_cast<const char*>(base + names);
  return elf->names[elf->names_size - 1] == '\0';
}

// Name of a function; nullptr: it is none, or not inside.
const char* function_name(const Elf& elf, const Elf64_Sym& symbol) {
  constexpr unsigned kTypeMask = 15;
  if ((symbol.st_info & kTypeMask) != STT_FUNC || symbol.st_shndx == SHN_UNDEF || symbol.st_name >= elf.names_size) return nullptr;
  return is_inside(elf, symbol.st_value, symbol.st_size) ? elf.names + symbol.st_name : nullptr;
}

std::uint64_t find_function(const Elf& elf, const char* wanted) {
  for (std::uint64_t i = 0; i < elf.symbol_count; ++i) {
    const char* name = function_name(elf, elf.symbols[i]);
    if (name != nullptr && sys::equal(name, wanted)) return elf.base + elf.symbols[i].st_value;
  }
  return 0;
}

constexpr struct {
  char name[16];  // no pointer: the restorer moves
  std::uint32_t number;
} kCalls[] = {{"clock_gettime", __NR_clock_gettime},
              {"clock_getres", __NR_clock_getres},
              {"gettimeofday", __NR_gettimeofday},
              {"time", __NR_time},
              {"getcpu", __NR_getcpu},
              {"getrandom", __NR_getrandom}};

constexpr std::size_t kStubSize = 14, kCallSize = 8;

// mov $number, %eax; syscall; ret
void write_call(std::uint8_t* code, std::uint32_t number) {
  code[0] = 0xb8;
  memcpy(code + 1, &number, sizeof(number));
  code[5] = 0x0f;
  code[6] = 0x05;
  code[7] = 0xc3;
}

// jmp *0(%rip), and the address
void write_jump(std::uint8_t* code, std::uint64_t target) {
  const std::uint8_t jump[6] = {0xff, 0x25, 0, 0, 0, 0};
  memcpy(code, jump, sizeof(jump));
  memcpy(code + sizeof(jump), &target, sizeof(target));
}

bool ends_in(const char* name, const char* call) {
  return sys::equal(name, call) || (sys::starts_with(name, "__vdso_") && sys::equal(name + 7, call));
}

// Calls first: of two names for one function, only one may be known to this kernel.
void lead_away(const Engine& engine, const Elf& old_elf, const Elf& own) {
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint64_t i = 0; i < old_elf.symbol_count; ++i) {
      const Elf64_Sym& symbol = old_elf.symbols[i];
      const char* name = function_name(old_elf, symbol);
      if (name == nullptr) continue;
      auto* code = reinterpret_cast<std::uint8_t*>(old_elf.base + symbol.st_value);
      const bool is_shifted =
          has_shifted_clocks(engine) && ends_in(name, "clock_gettime");  // a call: it is led on by translation.cc
      const std::uint64_t target = is_shifted ? 0 : find_function(own, name);
      if (pass == 1 && target != 0 && symbol.st_size >= kStubSize) write_jump(code, target);
      for (const auto& call : kCalls) {
        if (pass == 0 && symbol.st_size >= kCallSize && ends_in(name, call.name)) write_call(code, call.number);
      }
    }
  }
}

// The instruction pointer in the frame that a thread goes on with (struct ucontext of the kernel).
std::uint64_t* instruction_of(const format::ThreadRecord& thread) {
  constexpr std::uint64_t kRegisters = 40, kRip = 16;
  return reinterpret_cast<std::uint64_t*>(thread.context + kRegisters) + kRip;
}

// Threads inside the old code go on in a copy of it, its zero data beside it. Returns the copy.
std::span<std::uint8_t> set_threads_apart(const Engine& engine) {
  const format::HandOver& hand = *engine.hand;
  const std::uint64_t begin = hand.old_vdso;
  const std::uint64_t data = begin - hand.old_vdso_data;
  const auto* threads = list<format::ThreadRecord>(engine, hand.threads);
  std::uint64_t copy = 0;
  for (std::uint64_t i = 0; i < hand.threads.count; ++i) {
    std::uint64_t* at = instruction_of(threads[i]);
    if (*at < begin || *at >= begin + hand.old_vdso_size) continue;
    if (copy == 0) {
      const auto room =
          sys::map(0, data + hand.old_vdso_size + format::kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      if (room.failed()) die(engine, "cannot map a copy of the vdso", room.error());
      copy = static_cast<std::uint64_t>(room.value()) + data;
      memcpy(reinterpret_cast<void*>(copy), reinterpret_cast<const void*>(begin), hand.old_vdso_size);
      sys::protect(copy, hand.old_vdso_size, PROT_READ | PROT_EXEC).ignore();
    }
    *at += copy - begin;
  }
  return {reinterpret_cast<std::uint8_t*>(copy), copy == 0 ? 0 : hand.old_vdso_size};
}

// This kernel's areas, side by side as they were, where there is room. Returns where its code is.
std::uint64_t place_anywhere(const Engine& engine, std::uint64_t* size) {
  std::uint64_t total = 0;
  std::uint64_t code = 0;
  for (unsigned i = 0; i < engine.kernel_area_count; ++i) total += engine.kernel_areas[i].size;
  const auto room = sys::map(0, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) die(engine, "cannot place the vdso", room.error());
  auto at = static_cast<std::uint64_t>(room.value());
  for (unsigned i = 0; i < engine.kernel_area_count; ++i) {
    const KernelArea& area = engine.kernel_areas[i];
    const auto moved = sys::call(__NR_mremap, area.start, area.size, area.size, 1 | 2 /* MAYMOVE | FIXED */, at);
    if (moved.failed()) die_at(engine, "cannot move the vdso to", at, moved.error());
    if (area.kind == format::AreaKind::kVdso) {
      code = at;
      *size = area.size;
    }
    at += area.size;
  }
  return code;
}

}  // namespace

std::span<std::uint8_t> replace_vdso(const Engine& engine) {
  std::uint64_t size = 0;
  const std::uint64_t code = place_anywhere(engine, &size);
  Elf own;
  Elf old_elf;
  if (!open_elf(engine.hand->old_vdso, engine.hand->old_vdso_size, &old_elf) || !open_elf(code, size, &own))
    die(engine, "this kernel's vdso differs from the one of the image, which can't be read", 0);
  const auto copy = set_threads_apart(engine);
  lead_away(engine, old_elf, own);
  return copy;
}

}  // namespace ckpt::engine
