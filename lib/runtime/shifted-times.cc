// Times of clocks that count from the boot, after a restart where those are behind: see translated-call.h. Runs where the
// translator does, and so touches no vector register either.
#include <linux/futex.h>
#include <linux/time_types.h>

#include "lib/format/clocks.h"
#include "lib/runtime/translated-call.h"
#include "lib/sys/proc-file.h"

extern "C" {
[[gnu::visibility("hidden")]] ckpt::format::Translation ckpt_translation{};
}

namespace ckpt {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kAbsolute = 1;  // TIMER_ABSTIME, TFD_TIMER_ABSTIME
constexpr std::uint64_t kMonotonic = 1, kCpuTime = 2, kNoClock = ~0ULL;
constexpr int kEfault = 14;
constexpr std::uint64_t kFutexWaitv = 449, kFutexWait = 455;

std::int64_t shift_of(std::uint64_t clock) { return format::shift_of(ckpt_translation, static_cast<int>(clock)); }

std::uint64_t generation() { return __atomic_load_n(&ckpt_translation.generation, __ATOMIC_SEQ_CST); }

__kernel_timespec add(const __kernel_timespec& time, std::int64_t ns) {
  std::int64_t seconds = time.tv_sec + ns / kSecond;
  std::int64_t rest = time.tv_nsec + ns % kSecond;
  if (rest >= kSecond) rest -= kSecond, ++seconds;
  if (rest < 0) rest += kSecond, --seconds;
  return {seconds, rest};
}

// What is no time stays none, and what was before this boot is past.
__kernel_timespec set_back(const __kernel_timespec& time, std::int64_t shift) {
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= kSecond) return time;
  const __kernel_timespec set = add(time, -shift);
  return set.tv_sec < 0 || (set.tv_sec == 0 && set.tv_nsec == 0) ? __kernel_timespec{0, 1} : set;  // all zero would stop a timer
}

// What can't be read is for the kernel to refuse: this call looks at the time first, and then finds nothing to be done.
bool is_readable(const __kernel_timespec* time) { return sys::call(__NR_semtimedop, -1, nullptr, 0, time).error() != kEfault; }

void pass_timespec(TranslatedCall* call, unsigned argument, std::int64_t shift) {
  const auto* given = reinterpret_cast<const __kernel_timespec*>(call->given[argument]);
  if (shift == 0 || given == nullptr || !is_readable(given)) return;
  auto* copy = reinterpret_cast<__kernel_timespec*>(call->scratch);
  *copy = set_back(*given, shift);
  call->passed[argument] = reinterpret_cast<std::uint64_t>(copy);
}

// proc_pid_timers(5). kNoClock: not to be found.
std::uint64_t clock_of_timer(std::uint64_t id) {
  char buffer[256];
  sys::LineReader lines("/proc/self/timers", buffer);
  bool is_it = false;
  while (const char* line = lines.is_open() ? lines.next() : nullptr) {
    if (sys::starts_with(line, "ID: ")) {
      line += 4;
      is_it = sys::parse_decimal(&line) == id;
    } else if (is_it && sys::starts_with(line, "ClockID: ")) {
      line += 9;
      return *line == '-' ? kCpuTime : sys::parse_decimal(&line);
    }
  }
  return kNoClock;
}

std::uint64_t clock_of_timerfd(std::uint64_t fd) {
  char buffer[256];
  sys::ProcPath path;
  path.add("/proc/thread-self/fdinfo/").add_signed(static_cast<int>(fd));
  sys::FieldReader fields(path.c_str(), buffer);
  const char* clock = fields.find("clockid");
  return clock == nullptr ? kNoClock : sys::parse_decimal(&clock);
}

// Where it can't be asked for (no descriptor left): the clock whose time is next to the one that is given.
std::uint64_t nearest_clock(const __kernel_timespec& given) {
  std::uint64_t nearest = kNoClock;
  std::uint64_t least = ~0ULL;
  for (const int clock : {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME}) {
    const std::int64_t apart = given.tv_sec - program_time_ns(clock) / kSecond;
    const auto distance = static_cast<std::uint64_t>(apart < 0 ? -apart : apart);
    if (distance < least) nearest = static_cast<std::uint64_t>(clock), least = distance;
  }
  return nearest;
}

// Interval and first time; one that is zero stops the timer.
void pass_timer_value(TranslatedCall* call, std::uint64_t (*find_clock)(std::uint64_t)) {
  const auto* given = reinterpret_cast<const __kernel_itimerspec*>(call->given[2]);
  if (given == nullptr || !is_readable(&given->it_interval) || !is_readable(&given->it_value)) return;
  if (given->it_value.tv_sec == 0 && given->it_value.tv_nsec == 0) return;
  std::uint64_t clock = find_clock(call->given[0]);
  if (clock == kNoClock) clock = nearest_clock(given->it_value);
  auto* copy = reinterpret_cast<__kernel_itimerspec*>(call->scratch);
  *copy = {given->it_interval, set_back(given->it_value, shift_of(clock))};
  call->passed[2] = reinterpret_cast<std::uint64_t>(copy);
}

// Commands whose timeout is a point in time; of CLOCK_MONOTONIC, unless they say otherwise. FUTEX_LOCK_PI goes by CLOCK_REALTIME.
bool is_until(std::uint64_t operation) {
  constexpr unsigned kLockPi2 = 13;  // FUTEX_LOCK_PI2
  const unsigned command = static_cast<unsigned>(operation) & static_cast<unsigned>(FUTEX_CMD_MASK);
  return (operation & FUTEX_CLOCK_REALTIME) == 0 &&
         (command == FUTEX_WAIT_BITSET || command == FUTEX_WAIT_REQUEUE_PI || command == kLockPi2);
}

}  // namespace

// A restart may come at any instruction.
std::int64_t program_time_ns(int clock) {
  for (;;) {
    const std::uint64_t before = generation();
    const std::int64_t now = sys::clock_ns(clock) + shift_of(static_cast<std::uint64_t>(clock));
    if (generation() == before) return now;
  }
}

void pass_time(TranslatedCall* call) {
  call->generation = generation();
  if (ckpt_translation.monotonic_ns == 0 && ckpt_translation.boottime_ns == 0) return;
  const std::uint64_t* given = call->given;
  if (call->number == __NR_clock_nanosleep && (given[1] & kAbsolute) != 0) pass_timespec(call, 2, shift_of(given[0]));
  if (call->number == __NR_futex && is_until(given[1])) pass_timespec(call, 3, shift_of(kMonotonic));
  if (call->number == kFutexWaitv) pass_timespec(call, 3, shift_of(given[4]));
  if (call->number == kFutexWait) pass_timespec(call, 4, shift_of(given[5]));
  if ((given[1] & kAbsolute) == 0) return;
  if (call->number == __NR_timer_settime) pass_timer_value(call, clock_of_timer);
  if (call->number == __NR_timerfd_settime) pass_timer_value(call, clock_of_timerfd);
}

void show_time(TranslatedCall* call) {
  auto* time = reinterpret_cast<__kernel_timespec*>(call->given[1]);
  if (call->number != __NR_clock_gettime || time == nullptr) return;
  for (;;) {
    const __kernel_timespec shown = add(*time, shift_of(call->given[0]));
    if (generation() == call->generation) {
      *time = shown;
      return;
    }
    call->generation = generation();
    sys::call(__NR_clock_gettime, call->given[0], time).ignore();
  }
}

}  // namespace ckpt
