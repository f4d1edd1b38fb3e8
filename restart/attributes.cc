// Rights are asked of the kernel by trying in a child that ends at once: rules differ by kernel, container and limits.
#include "restart/attributes.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "lib/common/proc.h"

namespace ckpt {

namespace {

using format::ThreadStateRecord;

enum Lack : int { kCpus = 1, kScheduling = 2, kIoPriority = 4, kOomScore = 8 };

constexpr struct {
  Lack lack;
  const char* note;
} kNotes[] = {
    {kCpus, "the CPUs that threads were pinned to are not all here: they run on those that are"},
    {kScheduling, "the priority of some threads may not be set by this user: they run with an ordinary one"},
    {kIoPriority, "the I/O priority of some threads may not be set by this user"},
    {kOomScore, "oom_score_adj may not be lowered by this user"},
};

// Whether all CPUs of the thread are there: the kernel sets those that are, and says nothing.
bool can_have_cpus(const ThreadStateRecord& state) {
  if (syscall(SYS_sched_setaffinity, 0, sizeof(state.cpus), state.cpus) != 0) return false;
  std::uint64_t now[format::kCpuWords]{};
  if (syscall(SYS_sched_getaffinity, 0, sizeof(now), now) < 0) return false;
  return std::equal(std::begin(now), std::end(now), std::begin(state.cpus));
}

bool can_have_oom_score(int value) {
  const std::string text = std::to_string(value);
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  return fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

int own_oom_score() {
  static const int own = [] {
    std::ifstream file("/proc/self/oom_score_adj");
    int value = 0;
    file >> value;
    return value;
  }();
  return own;
}

// In the child, for one thread.
int lacks_of(const ThreadStateRecord& state) {
  int lacks = 0;
  if (state.is_pinned != 0 && !can_have_cpus(state)) lacks |= kCpus;
  auto scheduling = state.scheduling;
  constexpr std::uint32_t kDeadline = 6;  // SCHED_DEADLINE; elsewhere the runtime is a slice, and the kernel's own affair
  if (scheduling.policy != kDeadline) scheduling.runtime = 0;
  if (syscall(SYS_sched_setattr, 0, &scheduling, 0) != 0) lacks |= kScheduling;
  if (syscall(SYS_ioprio_set, 1, 0, state.io_priority) != 0) lacks |= kIoPriority;
  return lacks;
}

// Each thread in a child of its own: from a low priority there is no way back.
int try_in_child(const ProcessImage& process, const ThreadStateRecord* state) {
  const pid_t child = fork();
  if (child < 0) return 0;
  if (child == 0) {
    if (state != nullptr) _exit(lacks_of(*state));
    _exit(can_have_oom_score(process.state.oom_score_adj) ? 0 : kOomScore);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 0;
  return WEXITSTATUS(status);
}

bool is_ordinary(const ThreadStateRecord& state) {
  return state.is_pinned == 0 && state.scheduling.policy == SCHED_OTHER && state.scheduling.nice == 0 &&
         state.scheduling.flags == 0 && state.io_priority == 0;
}

void note_limits(const ProcessImage& process, std::vector<std::string>& notes) {
  if (geteuid() == 0) return;
  const bool is_cut = std::ranges::any_of(process.limits, [](const format::LimitRecord& record) {
    rlimit now{};
    return getrlimit(static_cast<__rlimit_resource_t>(record.resource), &now) == 0 && now.rlim_max < record.hard;
  });
  if (is_cut) notes.emplace_back("some resource limits were higher: this user's hold");
}

void note_groups(const ProcessImage& process, std::vector<std::string>& notes) {
  std::vector<gid_t> now(static_cast<std::size_t>(std::max(0, getgroups(0, nullptr))));
  if (getgroups(static_cast<int>(now.size()), now.data()) < 0) return;
  std::vector<gid_t> wanted(process.groups.begin(), process.groups.end());
  std::ranges::sort(now);
  std::ranges::sort(wanted);
  if (now != wanted && geteuid() != 0) notes.emplace_back("its supplementary groups were others: this user's hold");
}

void note_group(const ProcessImage& process, std::vector<std::string>& notes) {
  const bool is_other = std::ranges::any_of(process.process.gid, [](std::uint32_t gid) { return gid != getegid(); });
  if (is_other && geteuid() != 0)
    notes.emplace_back("its group was " + std::to_string(process.process.gid[1]) + ": this user's holds");
}

void note_filters(const ProcessImage& process, std::vector<std::string>& notes) {
  if (std::ranges::none_of(process.thread_states, [](const auto& state) { return state.seccomp_filters != 0; })) return;
  const auto self = read_status(getpid());
  if (self && self->seccomp_filters == 0) notes.emplace_back("the seccomp filters that it was launched under are not here");
}

}  // namespace

std::vector<std::string> list_degradations(const ProcessImage& process) {
  std::vector<std::string> notes;
  if (!process.has_state) return notes;
  int lacks = process.state.oom_score_adj == own_oom_score() ? 0 : try_in_child(process, nullptr);
  const ThreadStateRecord* last = nullptr;
  for (const ThreadStateRecord& state : process.thread_states) {
    const bool is_known = last != nullptr && last->scheduling.policy == state.scheduling.policy &&
                          last->scheduling.nice == state.scheduling.nice &&
                          last->scheduling.priority == state.scheduling.priority && last->io_priority == state.io_priority &&
                          std::ranges::equal(last->cpus, state.cpus);
    if (is_known || is_ordinary(state)) continue;
    last = &state;
    lacks |= try_in_child(process, &state);
  }
  for (const auto& [lack, note] : kNotes) {
    if ((lacks & lack) != 0) notes.emplace_back(note);
  }
  note_limits(process, notes);
  note_group(process, notes);
  note_groups(process, notes);
  note_filters(process, notes);
  return notes;
}

}  // namespace ckpt
