// The system calls that tell the time of a clock that counts from the boot, or are given one: what is translated after a restart
// where such a clock is behind, and so what the restorer leads through the translator. (Times of other calls are spans.)
#pragma once

#include <asm/unistd.h>

#include <cstdint>

namespace ckpt::sys {

constexpr bool is_time_call(std::uint64_t number) {
  constexpr std::uint64_t kFutexWaitv = 449, kFutexWait = 455;  // Linux 5.16 and 6.7
  constexpr std::uint64_t kCalls[] = {__NR_clock_gettime, __NR_clock_nanosleep, __NR_timer_settime, __NR_timerfd_settime,
                                      __NR_futex,         kFutexWaitv,          kFutexWait};
  for (const std::uint64_t call : kCalls) {
    if (call == number) return true;
  }
  return false;
}

}  // namespace ckpt::sys
