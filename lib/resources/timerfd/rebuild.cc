// timerfd: armed again. CLOCK_MONOTONIC and CLOCK_BOOTTIME go on where they were (time_namespaces(7)), so their timers expire when
// they were to. By CLOCK_REALTIME, what was set for a point in time expires then, and what was set for a while, after what was
// left.
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "lib/format/clocks.h"
#include "lib/resources/files/rebuild.h"
#include "lib/resources/timerfd/record.h"

namespace ckpt {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr unsigned long kSetTicks = _IOW('T', 0, std::uint64_t);  // TFD_IOC_SET_TICKS

timespec time_of(std::int64_t ns) { return {ns / kSecond, ns % kSecond}; }

std::int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(format::readable_clock(clock), &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

// To expire at `at`, or after that while.
void arm(int fd, const format::TimerFdState& state, bool is_absolute, std::int64_t at) {
  itimerspec time{};
  time.it_interval = time_of(state.interval_ns);
  time.it_value = time_of(at);
  const int flags = is_absolute ? static_cast<int>(state.flags) | TFD_TIMER_ABSTIME : 0;
  if (timerfd_settime(fd, flags, &time, nullptr) != 0) throw Error::from_errno("set", "a timerfd", errno, ExitCode::kRunner);
}

void set_ticks(int fd, std::uint64_t ticks) {
  if (ticks != 0 && ioctl(fd, kSetTicks, &ticks) != 0) {
    throw Error::from_errno("set the ticks of", "a timerfd", errno, ExitCode::kRunner);
  }
}

// A beat that goes on: what has passed of it meanwhile is counted, and the next one armed. Setting the ticks would swallow one that
// comes just then, so it is done again until none did.
void arm_beat(int fd, const format::TimerFdState& state) {
  for (;;) {
    const std::int64_t late = now_ns(static_cast<clockid_t>(state.clock)) - state.expires_ns;
    const std::int64_t missed = late < 0 ? 0 : late / state.interval_ns + 1;
    const std::int64_t next = state.expires_ns + missed * state.interval_ns;
    arm(fd, state, true, next);
    set_ticks(fd, state.ticks + static_cast<std::uint64_t>(missed));
    if (now_ns(static_cast<clockid_t>(state.clock)) < next) return;
    if (state.interval_ns < 50'000) return;  // faster than we are
  }
}

}  // namespace

int rebuild_timerfd(const RestartPlan& plan, const Description& description) {
  auto state = state_of<format::TimerFdState>(description);
  const std::int64_t shift = format::shift_of(plan.translation(), static_cast<int>(state.clock));
  if (shift != 0 && state.expires_ns != 0) state.expires_ns = std::max<std::int64_t>(state.expires_ns - shift, 1);
  const int fd = timerfd_create(static_cast<int>(state.clock), TFD_CLOEXEC | TFD_NONBLOCK);
  if (fd < 0) throw Error::from_errno("create", "a timerfd", errno, ExitCode::kRunner);
  const bool is_real = state.clock == CLOCK_REALTIME || state.clock == CLOCK_REALTIME_ALARM;
  const bool is_absolute = !is_real || (state.flags & TFD_TIMER_ABSTIME) != 0;
  if (state.expires_ns != 0 && state.interval_ns != 0 && is_absolute) {
    arm_beat(fd, state);
  } else {
    if (state.expires_ns != 0 || state.interval_ns != 0) {  // one that is not armed may have an interval
      arm(fd, state, is_absolute, is_absolute ? state.expires_ns : state.left_ns);
    }
    set_ticks(fd, state.ticks);
  }
  return fd;
}

}  // namespace ckpt
