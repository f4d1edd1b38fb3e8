// timers: collects interval timers, POSIX timers and clocks.
//
// Timers do not stand still while threads do. One that expires between the look at what is pending and the look at the timers
// would be in neither; so after the timers have been read it is looked once more for signals, and if there are any, all timers
// are read again.
#include "lib/resources/timers/collect.h"

#include "lib/format/clocks.h"
#include "lib/resources/collector.h"
#include "lib/resources/signals/collect.h"
#include "lib/resources/signals/record.h"
#include "lib/resources/timers/collect-due.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::IntervalTimerRecord;
using format::PosixTimerRecord;

constexpr unsigned kIntervalTimers = 3;
constexpr int kRounds = 16;  // then the program's timers tick so fast that the next signal is as good as the last one
constexpr int kNotifyThreadId = 4;
constexpr int kNotifyNone = 1;

struct KernelTimeval {
  std::int64_t seconds;
  std::int64_t microseconds;
};

std::int64_t microseconds(const KernelTimeval& time) { return time.seconds * 1'000'000 + time.microseconds; }

struct Timers {
  IntervalTimerRecord interval[kIntervalTimers];
  PosixTimerRecord* posix;
  unsigned posix_count;
  format::ClocksRecord clocks;
};

Message& refuse_timer(Collector* collector, const PosixTimerRecord& timer) {
  return collector->refuse().add("its POSIX timer ").add_signed(timer.id).add(": ");
}

bool is_thread(std::int32_t tid) {
  sys::Text<64> path;
  path.add("/proc/self/task/").add_signed(tid);
  return !sys::call(__NR_faccessat, AT_FDCWD, path.c_str(), 0).failed();
}

bool is_single_threaded() {
  char buffer[256];
  sys::NumberDirectory tasks("/proc/self/task", buffer);
  return tasks.next() >= 0 && tasks.next() < 0;
}

std::int32_t clock_of_thread(std::int32_t tid, std::int32_t clock) {
  constexpr std::int32_t kPerThread = 4;
  constexpr std::int32_t kScheduled = 2;  // what CLOCK_THREAD_CPUTIME_ID counts
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(tid) << 3) | kPerThread | (clock < 0 ? clock & 3 : kScheduled);
}

// The thread whose CPU time a timer takes that was made for "the calling thread"; 0: it is no more. The kernel does not tell, but
// set to a known point of its clock for a moment, the timer tells what its clock shows; and all but the leader's stand.
std::int32_t find_owner(const PosixTimerRecord& timer) {
  constexpr std::int64_t kFarSeconds = 100'000'000;
  const __kernel_timespec far[2] = {{0, 0}, {kFarSeconds, 0}};
  __kernel_timespec before[2]{};
  __kernel_timespec left[2]{};
  if (sys::call(__NR_timer_settime, timer.id, 1 /* TIMER_ABSTIME */, far, before).failed()) return 0;
  const std::int64_t leader_from = sys::clock_ns(clock_of_thread(sys::gettid(), timer.clock));
  sys::call(__NR_timer_gettime, timer.id, left).ignore();
  const std::int64_t leader_to = sys::clock_ns(clock_of_thread(sys::gettid(), timer.clock));
  sys::call(__NR_timer_settime, timer.id, 0, before, nullptr).ignore();
  const std::int64_t shown = kFarSeconds * 1'000'000'000 - nanoseconds(left[1]);
  if (shown >= leader_from && shown <= leader_to) return sys::gettid();
  char buffer[1024];
  sys::NumberDirectory tasks("/proc/self/task", buffer);
  for (int tid = tasks.next(); tid >= 0; tid = tasks.next()) {
    if (sys::clock_ns(clock_of_thread(tid, timer.clock)) == shown) return tid;
  }
  return 0;
}

// A clock of CPU time has a process or thread in its number; 0 is the one that made the timer (include/linux/posix-timers_types.h).
bool settle_cpu_clock(Collector* collector, PosixTimerRecord* timer) {
  constexpr int kThreadCpuTime = 3;
  const bool is_of_thread = timer->clock == kThreadCpuTime || (timer->clock < 0 && (timer->clock & 4) != 0);
  const std::int32_t whose = timer->clock < 0 ? ~(timer->clock >> 3) : 0;
  if (timer->clock < 0 && (timer->clock & 3) == 3) {
    refuse_timer(collector, *timer).add("its clock is a device");
    return false;
  }
  if (is_of_thread && whose == 0 && !is_single_threaded()) {
    const std::int32_t owner = find_owner(*timer);
    timer->clock = owner != 0 ? clock_of_thread(owner, timer->clock) : CLOCK_MONOTONIC;
    if (owner == 0) timer->notify = kNotifyNone;
    return true;
  }
  if (whose == 0 || (!is_of_thread && whose == collector->pid)) return true;
  if (!is_of_thread) {
    refuse_timer(collector, *timer).add("it takes the CPU time of process ").add_signed(whose);
    return false;
  }
  // The clock of a thread that is no more stands still.
  if (!is_thread(whose)) timer->clock = CLOCK_MONOTONIC, timer->notify = kNotifyNone;
  return true;
}

bool list_posix_timers(Collector* collector, Timers* timers) {
  char buffer[512];
  timers->posix = nullptr;
  timers->posix_count = 0;
  sys::LineReader lines("/proc/self/timers", buffer);
  while (const char* line = lines.next()) {
    if (sys::starts_with(line, "ID:")) {
      // One behind the other.
      auto* timer = static_cast<PosixTimerRecord*>(collector->arena->take(sizeof(PosixTimerRecord), 8));
      if (timer == nullptr) {
        collector->refuse(kCodeFailed).add("out of memory");
        return false;
      }
      if (timers->posix == nullptr) timers->posix = timer;
      ++timers->posix_count;
      *timer = {};
    }
    if (timers->posix_count > 0) parse_timer_line(line, &timers->posix[timers->posix_count - 1]);
  }
  for (unsigned i = 0; i < timers->posix_count; ++i) {
    PosixTimerRecord* timer = &timers->posix[i];
    if (!settle_cpu_clock(collector, timer)) return false;
    // The thread to be told is no more: nobody is told.
    if (timer->tid != 0 && !is_thread(timer->tid)) timer->tid = 0;
    if (timer->tid == 0 && (timer->notify & kNotifyThreadId) != 0) timer->notify = kNotifyNone;
  }
  return true;
}

void read_times(const Collector& collector, Timers* timers) {
  for (std::uint32_t which = 0; which < kIntervalTimers; ++which) {
    KernelTimeval value[2]{};  // interval, left
    sys::call(__NR_getitimer, which, value).ignore();
    timers->interval[which] = {which, 0, microseconds(value[0]), microseconds(value[1])};
  }
  for (unsigned i = 0; i < timers->posix_count; ++i) {
    PosixTimerRecord* timer = &timers->posix[i];
    __kernel_timespec value[2]{};  // interval, left
    sys::call(__NR_timer_gettime, timer->id, value).ignore();
    timer->interval_ns = nanoseconds(value[0]);
    timer->left_ns = nanoseconds(value[1]);
    const auto overrun = sys::call(__NR_timer_getoverrun, timer->id);
    timer->overrun = overrun.failed() ? 0 : static_cast<std::uint32_t>(overrun.value());
  }
  const auto shown = [&](int clock) { return sys::clock_ns(clock) + format::shift_of(collector.translation, clock); };
  timers->clocks = {shown(CLOCK_MONOTONIC), shown(CLOCK_BOOTTIME), shown(CLOCK_REALTIME)};
}

bool is_pending_for(std::int32_t tid, std::int32_t signal) {
  char buffer[sys::FieldReader::kEnough];
  sys::FieldReader status(sys::task_path(tid, "status").c_str(), buffer);
  const char* pending = status.find("SigPnd");
  return pending != nullptr && (sys::parse_hex(&pending) & sys::signal_bit(signal)) != 0;
}

// A one-shot timer for a thread, expired since that thread has taken its signals out: nobody but the thread could take it.
void add_late_signal(Collector* collector, const PosixTimerRecord& timer) {
  if (timer.tid == 0 || timer.interval_ns != 0 || timer.left_ns != 0 || !is_pending_for(timer.tid, timer.signal)) return;
  auto* record = collector->add_record<format::PendingSignalRecord>(format::RecordType::kPendingSignal);
  if (record == nullptr) return;
  siginfo_t info{};
  info.si_signo = timer.signal;
  info.si_code = SI_TIMER;
  info.si_tid = timer.id;
  info.si_ptr = reinterpret_cast<void*>(timer.value);
  write_pending(record, timer.tid, info);
}

void add_records(Collector* collector, const Timers& timers) {
  for (const IntervalTimerRecord& timer : timers.interval) {
    if (timer.left_us == 0) continue;
    auto* record = collector->add_record<IntervalTimerRecord>(format::RecordType::kIntervalTimer);
    if (record != nullptr) *record = timer;
  }
  for (unsigned i = 0; i < timers.posix_count; ++i) {
    auto* record = collector->add_record<PosixTimerRecord>(format::RecordType::kPosixTimer);
    if (record != nullptr) *record = timers.posix[i];
    add_late_signal(collector, timers.posix[i]);
  }
  auto* clocks = collector->add_record<format::ClocksRecord>(format::RecordType::kClocks);
  if (clocks != nullptr) *clocks = timers.clocks;
}

}  // namespace

void parse_timer_line(const char* line, PosixTimerRecord* timer) {
  const char* at = line;
  while (*at != ' ' && *at != '\0') ++at;
  sys::skip_spaces(&at);
  if (sys::starts_with(line, "ID:")) timer->id = static_cast<std::int32_t>(sys::parse_decimal(&at));
  if (sys::starts_with(line, "signal:")) {
    timer->signal = static_cast<std::int32_t>(sys::parse_decimal(&at));
    if (*at == '/') ++at;
    timer->value = sys::parse_hex(&at);
  }
  if (sys::starts_with(line, "notify:")) {
    timer->notify = *at == 's' ? 0 : *at == 'n' ? kNotifyNone : 2;
    while (*at != '/' && *at != '\0') ++at;
    if (!sys::starts_with(at, "/tid.")) return;
    timer->notify |= kNotifyThreadId;
    at += 5;
    timer->tid = static_cast<std::int32_t>(sys::parse_decimal(&at));
  }
  if (sys::starts_with(line, "ClockID:")) {
    const bool is_negative = *at == '-';
    if (is_negative) ++at;
    const auto number = static_cast<std::int32_t>(sys::parse_decimal(&at));
    timer->clock = is_negative ? -number : number;
  }
}

bool collect_timers(Collector* collector) {
  Timers timers{};
  if (!list_posix_timers(collector, &timers)) return false;
  for (int round = 0; round < kRounds; ++round) {
    const unsigned before = collector->process_signal_count;
    read_times(*collector, &timers);
    if (!take_process_signals(collector)) return false;
    if (collector->process_signal_count == before) break;
  }
  add_records(collector, timers);
  return true;
}

}  // namespace ckpt
