// timerfd: timers that are read.
#pragma once

#include <cstdint>

namespace ckpt::format {

struct TimerFdState {
  std::uint32_t clock;
  std::uint32_t flags;       // TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET
  std::uint64_t ticks;       // expired and not read
  std::int64_t left_ns;      // 0: not armed
  std::int64_t expires_ns;   // by the clock; 0: not armed
  std::int64_t interval_ns;  // 0: once
};

}  // namespace ckpt::format
