// dlsym(3) where the program has it; a program of glibc before 2.34 may not, and then the list of libraries is searched that the
// dynamic linker keeps for debuggers (link.h, _r_debug).
#include "lib/runtime/wrappers/libc.h"

#include <linux/elf.h>

#include <cstdint>

#include "lib/sys/memory.h"

namespace ckpt {

namespace {

struct Library {  // link_map(3); the linker has relocated what its dynamic section points to
  std::uint64_t base;
  const char* name;
  const Elf64_Dyn* dynamic;
  const Library* next;
};

struct Debug {
  int version;
  const Library* first;
};

extern "C" {
[[gnu::weak]] void* dlsym(void* library, const char* name);
[[gnu::weak]] int* __errno_location();
[[gnu::weak]] extern const Debug _r_debug;
[[gnu::visibility("hidden")]] extern const Elf64_Dyn _DYNAMIC[];
}

constexpr long kGnuHash = 0x6ffffef5, kVersions = 0x6ffffff0;  // DT_GNU_HASH, DT_VERSYM
constexpr std::uint16_t kHiddenVersion = 0x8000;

// Its exported symbols, by DT_GNU_HASH: the layout is that of the GNU linker.
class Symbols {
 public:
  explicit Symbols(const Library& library) : base_(library.base) {
    for (const Elf64_Dyn* entry = library.dynamic; entry->d_tag != DT_NULL; ++entry) {
      const auto at = entry->d_un.d_ptr;
      if (entry->d_tag == DT_SYMTAB) table_ = reinterpret_cast<const Elf64_Sym*>(at);
      if (entry->d_tag == DT_STRTAB) strings_ = reinterpret_cast<const char*>(at);
      if (entry->d_tag == kVersions) versions_ = reinterpret_cast<const std::uint16_t*>(at);
      if (entry->d_tag == kGnuHash) hash_ = reinterpret_cast<const std::uint32_t*>(at);
    }
  }

  void* find(const char* name) const {
    // An address below the base was not relocated: the kernel's own library.
    if (hash_ == nullptr || table_ == nullptr || strings_ == nullptr || reinterpret_cast<std::uint64_t>(hash_) < base_)
      return nullptr;
    const std::uint32_t buckets = hash_[0];
    const std::uint32_t first = hash_[1];
    const std::uint32_t* bucket = hash_ + 4 + 2 * hash_[2];  // behind a filter of 64-bit words
    const std::uint32_t* chain = bucket + buckets;
    const std::uint32_t wanted = hash_of(name);
    std::uint32_t index = buckets == 0 ? 0 : bucket[wanted % buckets];
    if (index < first) return nullptr;
    for (;; ++index) {
      const std::uint32_t hash = chain[index - first];
      const Elf64_Sym& symbol = table_[index];
      const bool is_default = versions_ == nullptr || (versions_[index] & kHiddenVersion) == 0;
      if ((hash | 1) == (wanted | 1) && is_default && symbol.st_shndx != SHN_UNDEF && sys::equal(strings_ + symbol.st_name, name))
        return reinterpret_cast<void*>(base_ + symbol.st_value);
      if ((hash & 1) != 0) return nullptr;
    }
  }

 private:
  static std::uint32_t hash_of(const char* name) {
    std::uint32_t hash = 5381;
    while (*name != '\0') hash = hash * 33 + static_cast<unsigned char>(*name++);
    return hash;
  }

  std::uint64_t base_;
  const Elf64_Sym* table_ = nullptr;
  const char* strings_ = nullptr;
  const std::uint16_t* versions_ = nullptr;
  const std::uint32_t* hash_ = nullptr;
};

void* search_libraries(const char* name) {
  if (&_r_debug == nullptr) return nullptr;
  bool is_behind_us = false;
  for (const Library* library = _r_debug.first; library != nullptr; library = library->next) {
    if (is_behind_us) {
      if (void* found = Symbols(*library).find(name); found != nullptr) return found;
    }
    is_behind_us |= library->dynamic == _DYNAMIC;
  }
  return nullptr;
}

}  // namespace

void* find_in_libc(const char* name) {
  constexpr long kNext = -1;  // RTLD_NEXT
  return dlsym != nullptr ? dlsym(reinterpret_cast<void*>(kNext), name) : search_libraries(name);
}

bool is_of_glibc(const char* name, const void* function) {
  const Library* library = &_r_debug != nullptr ? _r_debug.first : nullptr;
  while (library != nullptr && Symbols(*library).find("gnu_get_libc_version") == nullptr) library = library->next;
  return library != nullptr && Symbols(*library).find(name) == function;
}

int fail_with(int error) {
  if (__errno_location != nullptr) *__errno_location() = error;
  return -1;
}

}  // namespace ckpt
