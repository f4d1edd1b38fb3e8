// timers: those whose signal is pending.
#include "lib/resources/timers/collect-due.h"

#include "lib/format/clocks.h"
#include "lib/resources/timers/collect.h"
#include "lib/resources/timers/record.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::TimerSignal;

// Clocks of CPU time hardly go on while all stand, and a thread's can be read by that one only.
bool is_of_time(int clock) { return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME; }

// By which clock it goes; −1: there is no such timer.
int clock_of_timer(std::int32_t id, std::span<char> buffer) {
  sys::LineReader lines("/proc/self/timers", buffer);
  format::PosixTimerRecord timer{};
  while (const char* line = lines.next()) {
    parse_timer_line(line, &timer);
    if (timer.id == id && sys::starts_with(line, "ClockID:")) return format::readable_clock(timer.clock);
  }
  return -1;
}

}  // namespace

void note_due(siginfo_t* info, std::span<char> buffer) {
  if (info->si_code != SI_TIMER) return;
  auto* signal = reinterpret_cast<TimerSignal*>(info);
  signal->due_ns = 0;
  signal->clock = clock_of_timer(signal->timer, buffer);
  __kernel_timespec value[2]{};  // interval, left
  if (!is_of_time(signal->clock) || sys::call(__NR_timer_gettime, signal->timer, value).failed()) return;
  const std::int64_t interval = nanoseconds(value[0]);
  const std::int64_t left = nanoseconds(value[1]);
  std::int64_t missed = 0;
  if (interval == 0 || left == 0 || __builtin_mul_overflow(interval, std::int64_t{signal->overrun} + 1, &missed)) return;
  const std::int64_t due = sys::clock_ns(signal->clock) + left - missed;
  if (due > 0) signal->due_ns = due;
}

bool is_due_again(const siginfo_t& info, std::span<const siginfo_t> infos) {
  const TimerSignal* signal = format::due_timer(&info);
  if (signal == nullptr) return false;
  for (const siginfo_t& other : infos) {
    const TimerSignal* first = format::due_timer(&other);
    if (first != nullptr && first->timer == signal->timer) return true;
  }
  return false;
}

bool make_due(const siginfo_t& info) {
  constexpr int kAbsolute = 1;
  const TimerSignal* signal = format::due_timer(&info);
  __kernel_timespec value[2]{};
  if (signal == nullptr || sys::call(__NR_timer_gettime, signal->timer, value).failed()) return false;
  value[1] = {signal->due_ns / 1'000'000'000, signal->due_ns % 1'000'000'000};
  return !sys::call(__NR_timer_settime, signal->timer, kAbsolute, value, nullptr).failed();
}

void write_pending(format::PendingSignalRecord* record, std::int32_t tid, const siginfo_t& info) {
  record->tid = tid;
  memcpy(record->info, &info, sizeof(record->info));
  auto* signal = reinterpret_cast<TimerSignal*>(record->info);
  if (format::due_timer(record->info) != nullptr) signal->due_ns -= sys::clock_ns(signal->clock);
}

}  // namespace ckpt
