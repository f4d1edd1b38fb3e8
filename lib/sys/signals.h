// Signals as the kernel sees them: actions, sets, frames.
#pragma once

#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/ucontext.h>

#include <cstdint>

#include "lib/sys/calls.h"

namespace ckpt::sys {

inline constexpr int kSignals = 64;

// rt_sigaction(2) of the kernel; libc's struct differs.
struct KernelAction {
  std::uint64_t handler;
  std::uint64_t flags;
  std::uint64_t restorer;
  std::uint64_t mask;
};

constexpr std::uint64_t signal_bit(int signal) { return 1ULL << (signal - 1); }

inline SysResult set_action(int signal, const KernelAction* action, KernelAction* old) {
  return call(__NR_rt_sigaction, signal, action, old, 8);
}
inline std::uint64_t set_mask(std::uint64_t mask) {
  std::uint64_t old = 0;
  call(__NR_rt_sigprocmask, SIG_SETMASK, &mask, &old, 8).ignore();
  return old;
}
inline std::uint64_t pending_signals() {
  std::uint64_t set = 0;
  call(__NR_rt_sigpending, &set, 8).ignore();
  return set;
}
// Takes one pending signal out of `set`, the thread's own first; EAGAIN: none.
inline SysResult take_pending(std::uint64_t set, siginfo_t* info) {
  const __kernel_timespec none{};
  return call(__NR_rt_sigtimedwait, &set, info, &none, 8);
}
inline SysResult queue_to_thread(int pid, int tid, int signal, const siginfo_t* info) {
  return call(__NR_rt_tgsigqueueinfo, pid, tid, signal, info);
}

}  // namespace ckpt::sys
