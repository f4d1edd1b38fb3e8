// timerfd: clock, ticks and times, from fdinfo (proc_pid_fdinfo(5)).
#include "lib/format/clocks.h"
#include "lib/resources/timerfd/record.h"

#include <linux/time_types.h>

#include "lib/resources/files/collect.h"

namespace ckpt {

namespace {

// "it_value: (1, 999983132)"
bool find_time(const char* fdinfo, const char* name, std::int64_t* ns) {
  for (const char* at = fdinfo; *at != '\0'; ++at) {
    if ((at != fdinfo && at[-1] != '\n') || !sys::starts_with(at, name)) continue;
    at += strlen(name);
    const auto seconds = static_cast<std::int64_t>(sys::parse_decimal(&at));
    if (!sys::starts_with(at, ", ")) return false;
    at += 2;
    *ns = seconds * 1'000'000'000 + static_cast<std::int64_t>(sys::parse_decimal(&at));
    return true;
  }
  return false;
}

bool read_state(int fd, format::TimerFdState* value) {
  char text[1024];
  std::uint64_t clock = 0;
  std::uint64_t flags = 0;
  if (!read_fdinfo(fd, text) || !find_field(text, "clockid:", 10, &clock) || !find_field(text, "ticks:", 10, &value->ticks) ||
      !find_field(text, "settime flags:", 10, &flags) || !find_time(text, "it_value: (", &value->left_ns) ||
      !find_time(text, "it_interval: (", &value->interval_ns)) {
    return false;
  }
  value->clock = static_cast<std::uint32_t>(clock);
  value->flags = static_cast<std::uint32_t>(flags);
  return true;
}

// When the timer is due, by its clock; 0: never. One that beats and has expired counts the ticks since, and shows when the next one
// is due, only once it was asked.
std::int64_t ask_expiry(int fd, int clock) {
  constexpr std::int64_t kClose = 20'000;
  std::int64_t expiry = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {  // we may lose the CPU in between
    __kernel_itimerspec now{};
    const std::int64_t before = sys::clock_ns(clock);
    sys::call(__NR_timerfd_gettime, fd, &now).ignore();
    const std::int64_t after = sys::clock_ns(clock);
    const std::int64_t left = now.it_value.tv_sec * 1'000'000'000 + now.it_value.tv_nsec;
    expiry = left == 0 ? 0 : before + left;
    if (after - before < kClose) break;
  }
  return expiry;
}

}  // namespace

bool collect_timerfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  format::TimerFdState value{};
  bool is_read = read_state(descriptor.fd, &value);
  for (int attempt = 0; is_read && attempt < 10; ++attempt) {
    value.expires_ns = ask_expiry(descriptor.fd, format::readable_clock(static_cast<int>(value.clock)));
    is_read = read_state(descriptor.fd, &value);
    if (value.interval_ns == 0 || value.left_ns != 0 || value.expires_ns == 0) break;  // else it expired in between
  }
  if (!is_read) {
    refuse_descriptor(collector, descriptor).add("its timer can't be read");
    return false;
  }
  if (value.left_ns == 0 && value.interval_ns == 0) value.expires_ns = 0;
  if (value.expires_ns != 0) value.expires_ns += format::shift_of(collector->translation, static_cast<int>(value.clock));
  state->add(&value, sizeof(value));
  return true;
}

}  // namespace ckpt
