// What other kinds need of timers.
#pragma once

#include "lib/resources/timers/record.h"
#include "lib/sys/calls.h"

namespace ckpt {

// One line of /proc/self/timers (proc_pid_timers(5)); a timer begins with its ID and ends with its ClockID.
void parse_timer_line(const char* line, format::PosixTimerRecord* timer);

inline std::int64_t nanoseconds(const __kernel_timespec& time) { return time.tv_sec * 1'000'000'000LL + time.tv_nsec; }

}  // namespace ckpt
