// Clocks by their numbers in the kernel.
#pragma once

#include <cstdint>

#include "lib/format/numbers.h"

namespace ckpt::format {

// What the program sees of a clock, less what the kernel shows; 0: the same.
constexpr std::int64_t shift_of(const Translation& translation, int clock) {
  constexpr int kMonotonic = 1, kRaw = 4, kCoarse = 6, kBootTime = 7, kBootTimeAlarm = 9;
  if (clock == kMonotonic || clock == kRaw || clock == kCoarse) return translation.monotonic_ns;
  return clock == kBootTime || clock == kBootTimeAlarm ? translation.boottime_ns : 0;
}

// The same time, by a clock that can be read: an alarm clock can't, where the machine has no device that could wake it
// (timerfd_create(2); kernel: alarmtimer.c, alarm_clock_get_timespec).
constexpr int readable_clock(int clock) {
  constexpr int kRealtime = 0, kBootTime = 7, kRealtimeAlarm = 8, kBootTimeAlarm = 9;
  return clock == kRealtimeAlarm ? kRealtime : clock == kBootTimeAlarm ? kBootTime : clock;
}

}  // namespace ckpt::format
