// Timers, armed when everything else stands: POSIX timers with their old ids, then what was left of each. One whose signal was
// pending goes off at once.
#include <linux/prctl.h>

#include "lib/format/clocks.h"
#include "lib/sys/pid-calls.h"
#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::PosixTimerRecord;

constexpr int kPrTimerCreateRestoreIds = 77;  // Linux 6.15
constexpr std::int64_t kSecond = 1'000'000'000;

// sigevent of the kernel.
struct Event {
  std::uint64_t value;
  std::int32_t signal;
  std::int32_t notify;
  std::int32_t tid;
  std::int32_t padding[11];
};
static_assert(sizeof(Event) == 64);

sys::SysResult create(const Engine& engine, const PosixTimerRecord& timer, std::int32_t* id) {
  const Event event{timer.value, timer.signal, timer.notify, real_number(engine, timer.tid), {}};
  const std::int32_t owner = sys::number_of_clock(timer.clock);  // of CPU time
  const std::int32_t clock = owner > 0 ? sys::clock_of_number(timer.clock, real_number(engine, owner)) : timer.clock;
  return sys::call(__NR_timer_create, clock, &event, id);
}

// Ids are given out in ascending order: those in between are made and deleted again. For kernels that can't be told the id.
sys::SysResult create_by_counting(const Engine& engine, const PosixTimerRecord& timer, std::int32_t* id) {
  for (;;) {
    const auto result = create(engine, timer, id);
    if (result.failed() || *id >= timer.id) return result;
    sys::call(__NR_timer_delete, *id).ignore();
  }
}

void set_time(const PosixTimerRecord& timer, int flags, std::int64_t first) {
  const __kernel_timespec value[2] = {{timer.interval_ns / kSecond, timer.interval_ns % kSecond},
                                      {first / kSecond, first % kSecond}};
  sys::call(__NR_timer_settime, timer.id, flags, value, nullptr).ignore();
}

// The overrun that timer_getoverrun(2) tells is that of the last signal taken. So the timer is set into the past by as many
// intervals and the next one falls due when it should; its signal is taken here, before any other is queued.
void arm_with_overrun(const PosixTimerRecord& timer) {
  if (timer.overrun == 0 || timer.left_ns == 0 || timer.interval_ns == 0 || timer.notify != 0 || timer.clock < 0) return;
  std::int64_t back = 0;
  if (__builtin_mul_overflow(timer.interval_ns, std::int64_t{timer.overrun} + 1, &back)) return;
  const std::int64_t first = sys::clock_ns(format::readable_clock(timer.clock)) + timer.left_ns - back;
  if (first <= 0) return;
  set_time(timer, 1 /* TIMER_ABSTIME */, first);
  const std::uint64_t set = sys::signal_bit(timer.signal);
  const __kernel_timespec patience{1, 0};
  siginfo_t info{};
  sys::call(__NR_rt_sigtimedwait, &set, &info, &patience, 8).ignore();
}

// It had gone off before the freeze already, and has missed what would have followed.
void make_due(const Engine& engine, const format::TimerSignal& signal) {
  const std::int64_t first = sys::clock_ns(signal.clock) + signal.due_ns;
  const auto* timers = list<PosixTimerRecord>(engine, engine.hand->posix_timers);
  for (std::uint64_t i = 0; i < engine.hand->posix_timers.count; ++i) {
    if (timers[i].id == signal.timer) set_time(timers[i], 1 /* TIMER_ABSTIME */, first > 0 ? first : 1);
  }
}

}  // namespace

void create_timers(Engine* engine) {
  const auto* timers = list<PosixTimerRecord>(*engine, engine->hand->posix_timers);
  const std::uint64_t count = engine->hand->posix_timers.count;
  if (count == 0) return;
  const bool takes_ids = !sys::call(__NR_prctl, kPrTimerCreateRestoreIds, 1, 0, 0, 0).failed();
  for (std::uint64_t i = 0; i < count; ++i) {
    std::int32_t id = timers[i].id;
    const auto result = takes_ids ? create(*engine, timers[i], &id) : create_by_counting(*engine, timers[i], &id);
    if (result.failed() || id != timers[i].id) die(*engine, "cannot create a POSIX timer with its old number", result.error());
  }
  if (takes_ids) sys::call(__NR_prctl, kPrTimerCreateRestoreIds, 0, 0, 0, 0).ignore();
  for (std::uint64_t i = 0; i < count; ++i) arm_with_overrun(timers[i]);
}

void arm_timers(const Engine& engine) {
  const auto* timers = list<PosixTimerRecord>(engine, engine.hand->posix_timers);
  for (std::uint64_t i = 0; i < engine.hand->posix_timers.count; ++i) {
    __kernel_timespec now[2]{};
    sys::call(__NR_timer_gettime, timers[i].id, now).ignore();
    const bool is_armed = now[1].tv_sec != 0 || now[1].tv_nsec != 0;
    if (timers[i].left_ns > 0 && !is_armed) set_time(timers[i], 0, timers[i].left_ns);
  }
  const auto* pending = list<format::PendingSignalRecord>(engine, engine.hand->pending);
  for (std::uint64_t i = 0; i < engine.hand->pending.count; ++i) {
    if (const auto* signal = format::due_timer(pending[i].info); signal != nullptr) make_due(engine, *signal);
  }
  const auto* intervals = list<format::IntervalTimerRecord>(engine, engine.hand->timers);
  for (std::uint64_t i = 0; i < engine.hand->timers.count; ++i) {
    const std::int64_t value[4] = {intervals[i].interval_us / 1'000'000, intervals[i].interval_us % 1'000'000,
                                   intervals[i].left_us / 1'000'000, intervals[i].left_us % 1'000'000};
    sys::call(__NR_setitimer, intervals[i].which, value, nullptr).ignore();
  }
}

}  // namespace ckpt::engine
