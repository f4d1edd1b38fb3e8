// What a thread is allowed to do, and how it is scheduled. Each thread does this for itself, and capabilities go last.
//
// What this user or this machine does not allow is left as it is: the plan has told so (restart/attributes.cc).
#include <linux/capability.h>
#include <linux/prctl.h>

#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::Scheduling;
using format::ThreadStateRecord;

constexpr int kIoPriorityOfThread = 1;
constexpr unsigned kCapabilities = 41;
constexpr std::uint32_t kKeepsCapabilities = 1U << 4;  // SECBIT_KEEP_CAPS
constexpr std::uint32_t kDeadline = 6;                 // SCHED_DEADLINE

void set_scheduling(const ThreadStateRecord& state) {
  if (state.is_pinned != 0) sys::call(__NR_sched_setaffinity, 0, sizeof(state.cpus), state.cpus).ignore();
  Scheduling now{};
  if (sys::call(__NR_sched_getattr, 0, &now, sizeof(now), 0).failed() || memcmp(&now, &state.scheduling, sizeof(now)) == 0) return;
  Scheduling wanted = state.scheduling;
  // The slice of an ordinary thread shows as a runtime, and would be pinned.
  if (wanted.policy != kDeadline && wanted.runtime == now.runtime) wanted.runtime = 0;
  if (!sys::call(__NR_sched_setattr, 0, &wanted, 0).failed()) return;
  wanted = now;
  wanted.runtime = 0;
  if (state.scheduling.nice > now.nice) wanted.nice = state.scheduling.nice;
  sys::call(__NR_sched_setattr, 0, &wanted, 0).ignore();
}

void set_notes(const ThreadStateRecord& state) {
  const auto option = [](int what, std::uint64_t value, std::uint64_t more = 0) {
    sys::call(__NR_prctl, what, value, more, 0, 0).ignore();
  };
  sys::call(__NR_ioprio_set, kIoPriorityOfThread, 0, state.io_priority).ignore();
  option(PR_SET_TIMERSLACK, state.timer_slack_ns);
  option(PR_MCE_KILL, PR_MCE_KILL_SET, state.memory_failure);
  for (unsigned kind = 0; kind < format::kSpeculationKinds; ++kind) {
    if ((state.speculation[kind] & PR_SPEC_PRCTL) == 0) continue;  // not the thread's to choose
    option(PR_SET_SPECULATION_CTRL, kind, state.speculation[kind] & ~static_cast<std::uint32_t>(PR_SPEC_PRCTL));
  }
  if (state.no_new_privs != 0) option(PR_SET_NO_NEW_PRIVS, 1);
}

// Only root's restart can: an ordinary user's plan has been refused where they differ.
void set_ids(const Engine& engine, const ThreadStateRecord& state) {
  if (engine.hand->keeps_capabilities == 0) return;
  std::uint32_t uid[3]{};
  std::uint32_t gid[3]{};
  sys::call(__NR_getresuid, &uid[0], &uid[1], &uid[2]).ignore();
  sys::call(__NR_getresgid, &gid[0], &gid[1], &gid[2]).ignore();
  if (memcmp(gid, state.gid, sizeof(gid)) != 0) {
    const auto result = sys::call(__NR_setresgid, state.gid[0], state.gid[1], state.gid[2]);
    if (result.failed()) die(engine, "cannot take the program's group ids", result.error());
  }
  if (memcmp(uid, state.uid, sizeof(uid)) != 0) {
    const auto result = sys::call(__NR_setresuid, state.uid[0], state.uid[1], state.uid[2]);
    if (result.failed()) die(engine, "cannot take the program's user ids", result.error());
  }
  if (state.gid[3] != state.gid[1]) sys::call(__NR_setfsgid, state.gid[3]).ignore();
  if (state.uid[3] != state.uid[1]) sys::call(__NR_setfsuid, state.uid[3]).ignore();
}

void set_secure_bits(const Engine& engine, const ThreadStateRecord& state) {
  if (engine.hand->keeps_capabilities != 0 && state.cap_permitted != 0) {
    for (unsigned capability = 0; capability < kCapabilities; ++capability) {
      if ((state.cap_bounding >> capability & 1) == 0) sys::call(__NR_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0).ignore();
    }
  }
  if ((state.secure_bits & kKeepsCapabilities) != 0) sys::call(__NR_prctl, PR_SET_KEEPCAPS, 1).ignore();
  const auto now = sys::call(__NR_prctl, PR_GET_SECUREBITS);
  if (now.value() != static_cast<long>(state.secure_bits)) sys::call(__NR_prctl, PR_SET_SECUREBITS, state.secure_bits).ignore();
}

// No capability that the program did not have; bounds of sets that this process does not hold are cut to what it may.
void drop_capabilities(const Engine& engine, const ThreadStateRecord* state) {
  sys::call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0).ignore();
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct now[2]{};
  sys::call(__NR_capget, &header, now).ignore();
  const bool is_told = state != nullptr && engine.hand->keeps_capabilities != 0;
  const std::uint64_t permitted = is_told ? state->cap_permitted : engine.hand->cap_permitted;
  const std::uint64_t effective = is_told ? state->cap_effective : engine.hand->cap_effective;
  const std::uint64_t inheritable = is_told ? state->cap_inheritable : engine.hand->cap_inheritable;
  __user_cap_data_struct wanted[2]{};
  for (unsigned i = 0; i < 2; ++i) {
    const unsigned shift = 32 * i;
    wanted[i].permitted = static_cast<std::uint32_t>(permitted >> shift) & now[i].permitted;
    wanted[i].effective = static_cast<std::uint32_t>(effective >> shift) & wanted[i].permitted;
    wanted[i].inheritable = static_cast<std::uint32_t>(inheritable >> shift) & (now[i].permitted | now[i].inheritable);
  }
  const auto result = sys::call(__NR_capset, &header, wanted);
  if (result.failed()) die(engine, "cannot drop capabilities", result.error());
  if (!is_told) return;
  for (unsigned capability = 0; capability < kCapabilities; ++capability) {
    if ((state->cap_ambient >> capability & 1) == 0) continue;
    sys::call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0).ignore();
  }
}

// Before the thread takes up ids and rights of the program: as ckpt-restart has entered the folder of the process.
void enter_own_folder(const Engine& engine, std::int32_t tid) {
  constexpr unsigned kCloneFs = 0x200;
  const auto* folders = list<format::HandFolder>(engine, engine.hand->folders);
  for (std::uint64_t i = 0; i < engine.hand->folders.count; ++i) {
    if (folders[i].tid != tid) continue;
    const auto* path = reinterpret_cast<const char*>(engine.hand) + folders[i].path;
    auto result = sys::call(__NR_unshare, kCloneFs);
    if (!result.failed()) result = sys::call(__NR_chdir, path);
    if (result.failed()) die(engine, "cannot enter the folder of a thread", result.error());
    sys::call(__NR_umask, folders[i].umask).ignore();
  }
}

}  // namespace

void settle_thread(const Engine& engine, const ThreadStateRecord* state) {
  if (state == nullptr) return drop_capabilities(engine, nullptr);
  enter_own_folder(engine, state->tid);
  set_scheduling(*state);
  set_notes(*state);
  set_ids(engine, *state);
  set_secure_bits(engine, *state);
  drop_capabilities(engine, state);
  // After the last change of capabilities, which may clear it.
  if (state->parent_death_signal != 0) sys::call(__NR_prctl, PR_SET_PDEATHSIG, state->parent_death_signal).ignore();
  constexpr std::uint32_t kTscFaults = 2;
  if (state->tsc_mode == kTscFaults) sys::call(__NR_prctl, PR_SET_TSC, state->tsc_mode).ignore();
}

}  // namespace ckpt::engine
