// signals: dispositions and what is pending.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

// As the kernel's rt_sigaction(2) takes it.
struct SignalActionRecord {
  std::uint32_t signal;
  std::uint32_t reserved;
  std::uint64_t handler;
  std::uint64_t flags;
  std::uint64_t restorer;
  std::uint64_t mask;
};

struct PendingSignalRecord {
  std::int32_t tid;  // 0: pending for the process
  std::uint32_t reserved;
  std::uint8_t info[128];  // siginfo_t of the kernel
};

// A siginfo_t of a POSIX timer. What the kernel leaves free behind it tells of a periodic one when it had gone off.
struct TimerSignal {
  static constexpr std::int32_t kTimerCode = -2;  // SI_TIMER

  std::int32_t signal;
  std::int32_t error;
  std::int32_t code;
  std::int32_t reserved;
  std::int32_t timer;
  std::int32_t overrun;
  std::uint64_t value;
  std::int32_t kernel_private;
  std::int32_t clock;   // CLOCK_REALTIME, CLOCK_MONOTONIC or CLOCK_BOOTTIME
  std::int64_t due_ns;  // by that clock, in an image from the freeze on (negative); 0: not noted
};

// nullptr: a signal of something else, or of a timer that need not be set back.
inline const TimerSignal* due_timer(const void* info) {
  const auto* signal = static_cast<const TimerSignal*>(info);
  return signal->code == TimerSignal::kTimerCode && signal->due_ns != 0 ? signal : nullptr;
}

}  // namespace ckpt::format
