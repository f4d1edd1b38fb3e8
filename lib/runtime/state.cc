// Where State lies, and what is mapped for it.
#include "lib/runtime/state.h"

#include "lib/runtime/aside.h"
#include "lib/sys/calls.h"
#include "lib/sys/memory.h"

namespace ckpt {

// In .data, not .bss: that would be one more mapping.
[[gnu::section(".data")]] constinit State g_state{};

Tables* tables() {
  Tables* known = __atomic_load_n(&g_state.tables, __ATOMIC_ACQUIRE);
  if (known != nullptr) return known;
  const auto room = sys::map_aside(sizeof(Tables));
  if (room.failed()) return nullptr;
  auto* mine = reinterpret_cast<Tables*>(room.value());
  if (__atomic_compare_exchange_n(&g_state.tables, &known, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return mine;
  sys::unmap(static_cast<std::uint64_t>(room.value()), sizeof(Tables)).ignore();  // another thread was first
  return known;
}

void join_neighbour() {
  if (!is_alone()) return;
  const std::uint64_t page = reinterpret_cast<std::uint64_t>(&g_state) & ~(format::kPageSize - 1);
  char kept[format::kPageSize];
  memcpy(kept, reinterpret_cast<const void*>(page), sizeof(kept));
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  if (sys::map(page, sizeof(kept), PROT_READ | PROT_WRITE, kFlags).failed()) return;
  memcpy(reinterpret_cast<void*>(page), kept, sizeof(kept));
}

}  // namespace ckpt
