// A thread that has ended leaves its number behind: its slot is free for the next one.
#include "lib/runtime/dispatchers.h"

#include "lib/runtime/state.h"
#include "lib/sys/text.h"

namespace ckpt {

namespace {

bool is_alive(std::int32_t tid) {
  sys::Text<32> path;
  path.add("/proc/").add_signed(tid);
  return !sys::call(__NR_faccessat, AT_FDCWD, path.c_str(), 0).failed();
}

bool exchange(std::int32_t* slot, std::int32_t from, std::int32_t to) {
  return __atomic_compare_exchange_n(slot, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

}  // namespace

void note_dispatcher() {
  if (g_state.control == nullptr) return;
  forget_dispatcher();
  for (std::int32_t& slot : g_state.control->dispatchers) {
    const std::int32_t other = slot;
    if ((other == 0 || !is_alive(other)) && exchange(&slot, other, sys::gettid())) return;
  }
}

void forget_dispatcher() {
  if (g_state.control == nullptr) return;
  for (std::int32_t& slot : g_state.control->dispatchers) exchange(&slot, sys::gettid(), 0);
}

std::int32_t find_dispatcher() {
  for (const std::int32_t& slot : g_state.control->dispatchers) {
    const std::int32_t tid = slot;
    if (tid != 0 && is_alive(tid)) return tid;
  }
  return 0;
}

}  // namespace ckpt
