// threads: scheduling, priorities and privileges of each. What differs between threads though most programs have it once for all
// (user ids, table of descriptors, working directory) can't be saved and is refused.
#include "lib/resources/threads/collect.h"

#include <linux/capability.h>
#include <linux/prctl.h>

#include "lib/resources/process/collect.h"
#include "lib/sys/kcmp.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::ThreadStateRecord;

constexpr int kIoPriorityOfThread = 1;
constexpr int kArchGetCpuid = 0x1011;
constexpr unsigned kCapabilities = 41;

std::uint64_t join(std::uint32_t low, std::uint32_t high) { return static_cast<std::uint64_t>(high) << 32 | low; }

void describe_privileges(ThreadStateRecord* state) {
  sys::call(__NR_getresuid, &state->uid[0], &state->uid[1], &state->uid[2]).ignore();
  sys::call(__NR_getresgid, &state->gid[0], &state->gid[1], &state->gid[2]).ignore();
  state->uid[3] = static_cast<std::uint32_t>(sys::call(__NR_setfsuid, -1).value());
  state->gid[3] = static_cast<std::uint32_t>(sys::call(__NR_setfsgid, -1).value());
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  sys::call(__NR_capget, &header, data).ignore();
  state->cap_effective = join(data[0].effective, data[1].effective);
  state->cap_permitted = join(data[0].permitted, data[1].permitted);
  state->cap_inheritable = join(data[0].inheritable, data[1].inheritable);
  state->no_new_privs = static_cast<std::uint32_t>(sys::call(__NR_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0).value());
  state->secure_bits = static_cast<std::uint32_t>(sys::call(__NR_prctl, PR_GET_SECUREBITS).value());
  if (state->cap_permitted == 0) return;  // the rest is of no use to it
  for (unsigned capability = 0; capability < kCapabilities; ++capability) {
    const std::uint64_t bit = 1ULL << capability;
    if (sys::call(__NR_prctl, PR_CAPBSET_READ, capability).value() == 1) state->cap_bounding |= bit;
    if ((state->cap_inheritable & bit) == 0) continue;
    if (sys::call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0).value() == 1) state->cap_ambient |= bit;
  }
}

// The CPUs that are there, read once; nothing where that can't be told.
const std::uint64_t* online_cpus(Collector* collector) {
  if (collector->online_cpus != nullptr) return collector->online_cpus;
  auto* cpus = collector->arena->take_array<std::uint64_t>(format::kCpuWords);
  char text[256];
  if (cpus == nullptr || sys::read_file("/sys/devices/system/cpu/online", text, sizeof(text)).failed()) return nullptr;
  for (const char* at = text; *at >= '0' && *at <= '9';) {
    const auto first = sys::parse_decimal(&at);
    auto last = first;
    if (*at == '-') ++at, last = sys::parse_decimal(&at);
    if (*at == ',') ++at;
    for (auto cpu = first; cpu <= last && cpu < format::kCpuWords * 64; ++cpu) cpus[cpu / 64] |= 1ULL << cpu % 64;
  }
  return collector->online_cpus = cpus;
}

// A thread that may use every CPU there is goes on so where there are others.
bool is_pinned(Collector* collector, const ThreadStateRecord& state) {
  const std::uint64_t* online = online_cpus(collector);
  std::uint64_t any = 0;
  bool lacks = online == nullptr;
  for (unsigned i = 0; i < format::kCpuWords; ++i) {
    any |= state.cpus[i];
    lacks = lacks || (online[i] & ~state.cpus[i]) != 0;
  }
  return any != 0 && lacks;
}

// A thread with a folder of its own has a record of it. Several that share one among themselves can't be told from each other.
bool add_folder(Collector* collector, const ThreadStateRecord& state) {
  if (!sys::is_apart(collector->pid, state.tid, KCMP_FS)) return true;
  const bool has_main = read_umask("/proc/self/status") != kNoUmask;  // one that has ended is nowhere
  if (!has_main && !sys::is_apart(sys::gettid(), state.tid, KCMP_FS)) return true;
  bool is_alone = collector->alone_count < kMaxAlone;
  for (unsigned i = 0; i < collector->alone_count; ++i) is_alone &= sys::is_apart(collector->alone[i], state.tid, KCMP_FS);
  if (is_alone) collector->alone[collector->alone_count++] = state.tid;
  auto* path = collector->arena->take_array<char>(format::kPathBytes);
  const std::uint32_t umask = read_umask(sys::task_path(state.tid, "status").c_str());
  if (path == nullptr || umask == kNoUmask || !is_alone ||
      !sys::read_link(sys::task_path(state.tid, "cwd").c_str(), path, format::kPathBytes) || sys::ends_with(path, " (deleted)")) {
    collector->refuse().add("thread ").add_signed(state.tid).add(
        " has a working directory of its own, deleted or shared with another");
    return false;
  }
  const std::size_t size = strlen(path) + 1;
  auto* record = collector->add_record<format::ThreadFolderRecord>(format::RecordType::kThreadFolder, size, path);
  if (record != nullptr) *record = {state.tid, umask, static_cast<std::uint32_t>(size), 0};
  return true;
}

const char* complaint(const Collector& collector, const ThreadStateRecord& state) {
  if (state.seccomp_filters > collector.launch_filters)
    return "runs under a seccomp filter that it has installed itself; start it without its sandbox";
  if (state.cpuid_faults != 0) return "has switched CPUID off: arch_prctl(ARCH_SET_CPUID)";
  ThreadStateRecord leader{};
  sys::call(__NR_getresuid, &leader.uid[0], &leader.uid[1], &leader.uid[2]).ignore();
  sys::call(__NR_getresgid, &leader.gid[0], &leader.gid[1], &leader.gid[2]).ignore();
  if (memcmp(leader.uid, state.uid, 3 * sizeof(state.uid[0])) != 0 || memcmp(leader.gid, state.gid, 3 * sizeof(state.gid[0])) != 0)
    return "runs as another user than the other threads";
  return nullptr;
}

}  // namespace

void describe_thread_state(ThreadStateRecord* state) {
  *state = {};
  state->tid = sys::gettid();
  sys::call(__NR_sched_getattr, 0, &state->scheduling, sizeof(state->scheduling), 0).ignore();
  sys::call(__NR_sched_getaffinity, 0, sizeof(state->cpus), state->cpus).ignore();
  state->io_priority = static_cast<std::int32_t>(sys::call(__NR_ioprio_get, kIoPriorityOfThread, 0).value());
  state->timer_slack_ns = static_cast<std::uint64_t>(sys::call(__NR_prctl, PR_GET_TIMERSLACK).value());
  sys::call(__NR_prctl, PR_GET_PDEATHSIG, &state->parent_death_signal).ignore();
  sys::call(__NR_prctl, PR_GET_TSC, &state->tsc_mode).ignore();
  state->memory_failure = static_cast<std::uint32_t>(sys::call(__NR_prctl, PR_MCE_KILL_GET, 0, 0, 0, 0).value());
  for (unsigned kind = 0; kind < format::kSpeculationKinds; ++kind) {
    const auto mode = sys::call(__NR_prctl, PR_GET_SPECULATION_CTRL, kind, 0, 0, 0);
    state->speculation[kind] = mode.failed() ? 0 : static_cast<std::uint32_t>(mode.value());
  }
  state->cpuid_faults = sys::call(__NR_arch_prctl, kArchGetCpuid, 0).value() == 0 ? 1 : 0;
  if (sys::call(__NR_prctl, PR_GET_SECCOMP).value() != 0) {
    state->seccomp_filters = sys::count_seccomp_filters("/proc/thread-self/status");
  }
  describe_privileges(state);
}

void add_thread_state(Collector* collector, const ThreadStateRecord& state) {
  if (collector->code != 0) return;
  if (const char* what = complaint(*collector, state); what != nullptr) {
    collector->refuse().add("thread ").add_signed(state.tid).add(" ").add(what);
    return;
  }
  if (!add_folder(collector, state)) return;
  auto* record = collector->add_record<ThreadStateRecord>(format::RecordType::kThreadState);
  if (record == nullptr) return;
  *record = state;
  record->is_pinned = is_pinned(collector, state) ? 1 : 0;
}

}  // namespace ckpt
