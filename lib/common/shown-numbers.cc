// See shown-numbers.h. Every field that holds the number of a process, thread, group or session.
#include "lib/common/shown-numbers.h"

#include <signal.h>

#include <cstring>
#include <map>

namespace ckpt {

namespace {

class OldNumbers {
 public:
  explicit OldNumbers(const JobImage& image) {
    for (const ProcessImage& process : image.processes) {
      for (const format::NumberPair& pair : process.numbers) shown_.try_emplace(pair.real, pair.shown);
    }
  }

  bool is_empty() const { return shown_.empty(); }

  std::int32_t of(std::int32_t real) const {
    const auto found = shown_.find(real);
    return found != shown_.end() ? found->second : real;
  }

  template <typename... Fields>
  void put(Fields&... fields) const {
    ((fields = static_cast<Fields>(of(static_cast<std::int32_t>(fields)))), ...);
  }

 private:
  std::map<std::int32_t, std::int32_t> shown_;
};

// Who has sent it, where the kernel has said so.
void show_sender(const OldNumbers& numbers, format::PendingSignalRecord& pending) {
  siginfo_t info;
  static_assert(sizeof(info) == sizeof(pending.info));
  std::memcpy(&info, pending.info, sizeof(info));
  const bool is_of_child = info.si_signo == SIGCHLD && info.si_code > 0;
  if (!is_of_child && info.si_code != SI_USER && info.si_code != SI_TKILL && info.si_code != SI_QUEUE) return;
  numbers.put(info.si_pid);
  std::memcpy(pending.info, &info, sizeof(info));
}

// Above three bits that say what is counted; 3 is the clock of a descriptor.
void show_clock(const OldNumbers& numbers, std::int32_t& clock) {
  const std::int32_t owner = clock < 0 && (clock & 7) != 3 ? ~(clock >> 3) : 0;
  if (owner > 0) clock = static_cast<std::int32_t>(~static_cast<std::uint32_t>(numbers.of(owner)) << 3) | (clock & 7);
}

template <typename State, typename Change>
void change_state(Description& description, const Change& change) {
  State state{};
  if (description.state.size() < sizeof(state)) return;
  std::memcpy(&state, description.state.data(), sizeof(state));
  change(state);
  std::memcpy(description.state.data(), &state, sizeof(state));
}

void show_description(const OldNumbers& numbers, Description& description) {
  numbers.put(description.record.owner);
  if (description.record.kind == format::DescriptionKind::kTerminalMaster)
    change_state<format::TerminalMasterState>(description,
                                              [&](auto& state) { numbers.put(state.session, state.foreground_group); });
  if (description.record.kind == format::DescriptionKind::kPidFd)
    change_state<format::PidFdState>(description, [&](auto& state) { numbers.put(state.pid); });
}

void show_process(const OldNumbers& numbers, ProcessImage& process) {
  auto& record = process.process;
  numbers.put(record.pid, record.parent_pid, record.group_id, record.session_id, record.foreground_group);
  for (auto& thread : process.threads) numbers.put(thread.tid);
  for (auto& state : process.thread_states) numbers.put(state.tid);
  for (auto& folder : process.thread_folders) numbers.put(folder.record.tid);
  for (auto& descriptor : process.thread_descriptors) numbers.put(descriptor.tid);
  for (auto& zombie : process.zombies) numbers.put(zombie.pid);
  for (auto& timer : process.posix_timers) {
    numbers.put(timer.tid);
    show_clock(numbers, timer.clock);
  }
  for (auto& pending : process.pending) {
    numbers.put(pending.tid);
    show_sender(numbers, pending);
  }
  for (Description& description : process.descriptions) show_description(numbers, description);
}

}  // namespace

void show_old_numbers(JobImage& image) {
  const OldNumbers numbers(image);
  if (numbers.is_empty()) return;
  numbers.put(image.header.pid);
  for (ProcessImage& process : image.processes) show_process(numbers, process);
}

}  // namespace ckpt
