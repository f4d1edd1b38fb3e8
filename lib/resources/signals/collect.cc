// signals: collects dispositions, and what is pending for the process.
#include "lib/resources/signals/collect.h"

#include "lib/resources/signals/record.h"
#include "lib/resources/timers/collect-due.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

constexpr unsigned kMaxPending = 4096;

// We block all signals: where none at all is pending, there is no need to ask which are the thread's own.
std::uint64_t shared_pending() {
  if (sys::pending_signals() == 0) return 0;
  char buffer[sys::FieldReader::kEnough];
  sys::FieldReader status("/proc/thread-self/status", buffer);
  const char* pending = status.find("ShdPnd");
  return pending == nullptr ? 0 : sys::parse_hex(&pending);
}

}  // namespace

// Taken out to be seen; the leader queues them again before anybody goes on. Its own were taken before, so these are the process's.
bool take_process_signals(Collector* collector) {
  const std::uint64_t pending = shared_pending();
  if (pending == 0) return true;
  if (collector->process_signals == nullptr) collector->process_signals = collector->arena->take_array<siginfo_t>(kMaxPending);
  if (collector->process_signals == nullptr) {
    collector->refuse(kCodeFailed).add("out of memory");
    return false;
  }
  char buffer[512];
  while (collector->process_signal_count < kMaxPending) {
    siginfo_t* info = &collector->process_signals[collector->process_signal_count];
    if (sys::take_pending(pending, info).failed()) break;
    if (format::is_token(info->si_code)) continue;  // a second knock at our door
    note_due(info, buffer);
    if (is_due_again(*info, {collector->process_signals, collector->process_signal_count})) continue;
    auto* record = collector->add_record<format::PendingSignalRecord>(format::RecordType::kPendingSignal);
    if (record != nullptr) write_pending(record, 0, *info);
    ++collector->process_signal_count;
  }
  return true;
}

bool collect_signals(Collector* collector) {
  for (int signal = 1; signal <= sys::kSignals; ++signal) {
    sys::KernelAction action{};
    if (sys::set_action(signal, nullptr, &action).failed() || (action.handler == 0 && action.flags == 0 && action.mask == 0))
      continue;
    auto* record = collector->add_record<format::SignalActionRecord>(format::RecordType::kSignalAction);
    if (record != nullptr)
      *record = {static_cast<std::uint32_t>(signal), 0, action.handler, action.flags, action.restorer, action.mask};
  }
  return take_process_signals(collector);
}

}  // namespace ckpt
