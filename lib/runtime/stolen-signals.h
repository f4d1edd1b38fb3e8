// The two signals that libc keeps for itself, taken for us.
#pragma once

#include "lib/runtime/entry-points.h"
#include "lib/runtime/state.h"

namespace ckpt {

inline sys::KernelAction* stolen_action(int signal) { return &g_state.stolen[signal == format::kReservedSignal ? 0 : 1]; }

// Makes sure that 33 or 32 comes to us, from now on: libc's handler is called by ours (signal-entry.cc).
inline void steal(int signal) {
  sys::KernelAction current{};
  sys::set_action(signal, nullptr, &current).ignore();
  if (current.handler == reinterpret_cast<std::uint64_t>(ckpt_door)) return;
  *stolen_action(signal) = current;
  const sys::KernelAction ours{reinterpret_cast<std::uint64_t>(ckpt_door), SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_RESTORER,
                               reinterpret_cast<std::uint64_t>(ckpt_restore_rt), ~0ULL};
  sys::set_action(signal, &ours, nullptr).ignore();
}

}  // namespace ckpt
