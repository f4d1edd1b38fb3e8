// timers: interval timers, POSIX timers, and the clocks at the freeze.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

// setitimer(2): `which` is ITIMER_*; times are what was left at the freeze.
struct IntervalTimerRecord {
  std::uint32_t which;
  std::uint32_t reserved;
  std::int64_t interval_us;
  std::int64_t left_us;
};

// timer_create(2). Times are what was left at the freeze; 0: disarmed.
struct PosixTimerRecord {
  std::int32_t id;
  std::int32_t clock;
  std::int32_t notify;  // SIGEV_*, as the kernel has it
  std::int32_t signal;
  std::int32_t tid;       // the thread that SIGEV_THREAD_ID names; else 0
  std::uint32_t overrun;  // of the last expiration: timer_getoverrun(2)
  std::uint64_t value;    // sigev_value
  std::int64_t interval_ns;
  std::int64_t left_ns;
};

// As the program saw them, in nanoseconds. A time namespace carries the first two on.
struct ClocksRecord {
  std::int64_t monotonic_ns;
  std::int64_t boottime_ns;
  std::int64_t realtime_ns;
};

}  // namespace ckpt::format
