// process: children that have ended and wait to be waited for. Living ones are members of the job and describe themselves.
#include <linux/wait.h>

#include "lib/resources/collector.h"
#include "lib/resources/process/collect.h"
#include "lib/resources/process/record.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

// As wait4(2) returns it.
std::int32_t status_of(const siginfo_t& info) {
  constexpr int kExited = 1, kDumped = 3;  // CLD_EXITED, CLD_DUMPED
  if (info.si_code == kExited) return info.si_status << 8;
  return info.si_status | (info.si_code == kDumped ? 0x80 : 0);
}

void add_zombie(Collector* collector, int pid, std::int32_t status) {
  status &= format::ZombieRecord::kStatus;
  const sys::StatFile stat(sys::proc_path(pid, "stat").c_str());
  if (stat.signed_number(5) == pid) status |= format::ZombieRecord::kLedGroup;
  if (stat.signed_number(6) == pid) status |= format::ZombieRecord::kLedSession;
  const auto signal = static_cast<std::int32_t>(stat.signed_number(38));
  if (signal >= 0 && signal != SIGCHLD) status |= (signal + 1) << format::ZombieRecord::kExitSignalShift;
  auto* record = collector->add_record<format::ZombieRecord>(format::RecordType::kZombie);
  if (record != nullptr) *record = {pid, status};
}

// The trigger that the job itself has started will be gone after a restart, and all was well with it.
bool is_trigger(int pid) {
  char name[32] = "";
  const auto size = sys::read_file(sys::proc_path(pid, "comm").c_str(), name, sizeof(name));
  return !size.failed() && sys::starts_with(name, "ckpt-trigger");
}

void look_at_child(Collector* collector, int pid) {
  siginfo_t info{};
  const auto result = sys::call(__NR_waitid, P_PID, pid, &info, WNOHANG | WNOWAIT | WEXITED | __WALL, nullptr);
  if (!result.failed() && info.si_pid == pid) {
    add_zombie(collector, pid, status_of(info));
  } else if (is_trigger(pid)) {
    add_zombie(collector, pid, 0);
  }
}

// "12 345 6 ": in as many pieces as it takes.
void look_at_children_of(Collector* collector, int tid) {
  const sys::Fd file(sys::open(sys::task_path(tid, "children").c_str(), O_RDONLY));
  char text[4096];
  int child = 0;
  for (auto size = sys::read(file.get(), text, sizeof(text)); !size.failed() && size.value() > 0;
       size = sys::read(file.get(), text, sizeof(text))) {
    for (const char c : std::span(text, static_cast<std::size_t>(size.value()))) {
      if (c >= '0' && c <= '9') {
        child = child * 10 + (c - '0');
      } else if (child != 0) {
        look_at_child(collector, child);
        child = 0;
      }
    }
  }
}

}  // namespace

bool collect_children(Collector* collector) {
  for (unsigned i = 0; i < collector->thread_count; ++i) look_at_children_of(collector, collector->threads[i]);
  return true;
}

}  // namespace ckpt
