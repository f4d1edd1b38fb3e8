// Clocks by their numbers in the kernel.
#pragma once

namespace ckpt::format {

// The same time, by a clock that can be read: an alarm clock can't, where the machine has no device that could wake it
// (timerfd_create(2); kernel: alarmtimer.c, alarm_clock_get_timespec).
constexpr int readable_clock(int clock) {
  constexpr int kRealtime = 0, kBootTime = 7, kRealtimeAlarm = 8, kBootTimeAlarm = 9;
  return clock == kRealtimeAlarm ? kRealtime : clock == kBootTimeAlarm ? kBootTime : clock;
}

}  // namespace ckpt::format
