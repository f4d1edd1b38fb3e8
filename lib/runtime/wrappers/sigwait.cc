// Wrappers of sigwait(3), sigwaitinfo(2) and sigtimedwait(2): a program that waits for every signal may be handed one of ours.
//
// It is then passed on to this very thread by a signal that no sigwait of libc can wait for, whose handler does what the first
// one's would have done, and the wait goes on.
#include <linux/time_types.h>

#include "lib/runtime/state.h"
#include "lib/runtime/translated-call.h"
#include "lib/runtime/wrappers/libc.h"

namespace {

using namespace ckpt;

extern "C" {
[[gnu::weak]] int* __errno_location();
}

using Timedwait = int(const std::uint64_t*, siginfo_t*, const __kernel_timespec*);

int raw_timedwait(const std::uint64_t* set, siginfo_t* info, const __kernel_timespec* timeout) {
  const auto result = sys::call(__NR_rt_sigtimedwait, set, info, timeout, 8);
  return result.failed() ? fail_with(result.error()) : static_cast<int>(result.value());
}

// libc's own, for it is a cancellation point.
int libc_timedwait(const std::uint64_t* set, siginfo_t* info, const __kernel_timespec* timeout) {
  static constinit Timedwait* function = nullptr;
  if (function == nullptr) {
    void* found = find_in_libc("sigtimedwait");
    function = found != nullptr ? reinterpret_cast<Timedwait*>(found) : raw_timedwait;
  }
  return function(set, info, timeout);
}

void pass_on(siginfo_t* info) {
  info->si_signo = format::kReservedSignal;
  sys::queue_to_thread(sys::getpid(), sys::gettid(), format::kReservedSignal, info).ignore();
}

int wait_for(const std::uint64_t* set, siginfo_t* wanted, const __kernel_timespec* timeout) {
  const std::int64_t begin = timeout != nullptr ? program_time_ns(CLOCK_MONOTONIC) : 0;
  __kernel_timespec left = timeout != nullptr ? *timeout : __kernel_timespec{};
  for (;;) {
    siginfo_t info;
    const int signal = libc_timedwait(set, &info, timeout != nullptr ? &left : nullptr);
    if (signal < 0 || !format::is_token(info.si_code)) {
      if (signal >= 0 && wanted != nullptr) *wanted = info;
      return signal;
    }
    pass_on(&info);
    if (timeout == nullptr) continue;
    const std::int64_t total = timeout->tv_sec * 1'000'000'000LL + timeout->tv_nsec;
    const std::int64_t rest = total - (program_time_ns(CLOCK_MONOTONIC) - begin);
    left = {rest > 0 ? rest / 1'000'000'000 : 0, rest > 0 ? rest % 1'000'000'000 : 0};
  }
}

}  // namespace

extern "C" {

[[gnu::visibility("default")]] int sigtimedwait(const std::uint64_t* set, siginfo_t* info, const __kernel_timespec* timeout) {
  return wait_for(set, info, timeout);
}

[[gnu::visibility("default")]] int sigwaitinfo(const std::uint64_t* set, siginfo_t* info) { return wait_for(set, info, nullptr); }

// POSIX: never EINTR; the error is the result.
[[gnu::visibility("default")]] int sigwait(const std::uint64_t* set, int* signal) {
  for (;;) {
    const int result = wait_for(set, nullptr, nullptr);
    const int error = result < 0 && __errno_location != nullptr ? *__errno_location() : 0;
    if (result < 0 && error == sys::kEintr) continue;
    if (result < 0) return error;
    *signal = result;
    return 0;
  }
}
}
