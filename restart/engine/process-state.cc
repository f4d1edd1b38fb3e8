// What the kernel notes about the process as a whole: layout, dispositions, limits, timers, descriptors' flags.
#include <linux/prctl.h>

#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

void set_layout(const Engine& engine) {
  const format::MemoryLayoutRecord& layout = engine.hand->layout;
  prctl_mm_map map{};
  map.start_code = layout.start_code;
  map.end_code = layout.end_code;
  map.start_data = layout.start_data;
  map.end_data = layout.end_data;
  map.start_brk = layout.start_brk;
  map.brk = layout.brk;
  map.start_stack = layout.start_stack;
  map.arg_start = layout.arg_start;
  map.arg_end = layout.arg_end;
  map.env_start = layout.env_start;
  map.env_end = layout.env_end;
  map.auxv = reinterpret_cast<__u64*>(const_cast<std::uint8_t*>(list<std::uint8_t>(engine, engine.hand->auxv)));
  map.auxv_size = static_cast<__u32>(engine.hand->auxv.count);
  map.exe_fd = static_cast<__u32>(-1);
  sys::Fd executable;
  if (engine.hand->executable.count > 0) {
    const auto opened = sys::open(list<char>(engine, engine.hand->executable), O_RDONLY);
    if (opened.failed()) die(engine, "cannot open the program's executable", opened.error());
    executable = sys::Fd(opened);
    map.exe_fd = static_cast<__u32>(executable.get());
  }
  auto result = sys::call(__NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
  if (result.error() == sys::kEperm || result.error() == sys::kEacces) {  // without the capability only /proc/PID/exe stays wrong
    map.exe_fd = static_cast<__u32>(-1);
    result = sys::call(__NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
  }
  if (result.failed()) die(engine, "cannot set the memory layout", result.error());
}

void set_actions(const Engine& engine) {
  const auto* actions = list<format::SignalActionRecord>(engine, engine.hand->actions);
  const sys::KernelAction standard{};
  for (int signal = 1; signal <= sys::kSignals; ++signal) {
    if (signal != SIGKILL && signal != SIGSTOP) sys::set_action(signal, &standard, nullptr).ignore();
  }
  for (std::uint64_t i = 0; i < engine.hand->actions.count; ++i) {
    const sys::KernelAction action{actions[i].handler, actions[i].flags, actions[i].restorer, actions[i].mask};
    const auto result = sys::set_action(static_cast<int>(actions[i].signal), &action, nullptr);
    if (result.failed()) die(engine, "cannot set a signal's action", result.error());
  }
}

void mark_close_on_exec(const Engine& engine) {
  const auto* fds = list<std::int32_t>(engine, engine.hand->close_on_exec);
  for (std::uint64_t i = 0; i < engine.hand->close_on_exec.count; ++i) sys::call(__NR_fcntl, fds[i], F_SETFD, 1).ignore();
}

// Notes that go with the memory.
void set_memory_notes(const Engine& engine) {
  constexpr int kSetMdwe = 65;
  constexpr int kSetMemoryMerge = 67;
  constexpr int kArchGetXcompPerm = 0x1022;
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr unsigned kXstateComponents = 63;
  for (unsigned bit = 0; bit < 32; ++bit) {
    if ((engine.hand->membarriers >> bit & 1) != 0) sys::call(__NR_membarrier, 1U << bit, 0, 0).ignore();
  }
  std::uint64_t permitted = 0;
  sys::call(__NR_arch_prctl, kArchGetXcompPerm, &permitted).ignore();
  for (unsigned component = 0; component < kXstateComponents; ++component) {
    if (((engine.hand->xstate_permitted & ~permitted) >> component & 1) == 0) continue;
    const auto result = sys::call(__NR_arch_prctl, kArchReqXcompPerm, component);
    if (result.failed()) die(engine, "cannot get the right to a register set that the program uses", result.error());
  }
  if (engine.hand->merges_memory != 0) sys::call(__NR_prctl, kSetMemoryMerge, 1, 0, 0, 0).ignore();
  if (engine.hand->write_execute != 0) sys::call(__NR_prctl, kSetMdwe, engine.hand->write_execute, 0, 0, 0).ignore();
}

}  // namespace

void set_process_state(const Engine& engine) {
  sys::close(engine.hand->image_fd);
  sys::close(engine.hand->control_fd);
  set_layout(engine);
  sys::set_mask(~0ULL);
  set_actions(engine);
  mark_close_on_exec(engine);
  sys::call(__NR_personality, engine.hand->personality).ignore();
  set_memory_notes(engine);
}

void set_limits(const Engine& engine) {
  const auto* limits = list<format::LimitRecord>(engine, engine.hand->limits);
  for (std::uint64_t i = 0; i < engine.hand->limits.count; ++i) {
    struct Limit {
      std::uint64_t soft, hard;
    } now{}, wanted{limits[i].soft, limits[i].hard};
    if (!sys::call(__NR_prlimit64, 0, limits[i].resource, &wanted, nullptr).failed()) continue;
    // An ordinary user can't raise a hard limit: as close as it goes.
    if (sys::call(__NR_prlimit64, 0, limits[i].resource, nullptr, &now).failed()) continue;
    if (wanted.hard > now.hard) wanted.hard = now.hard;
    if (wanted.soft > wanted.hard) wanted.soft = wanted.hard;
    sys::call(__NR_prlimit64, 0, limits[i].resource, &wanted, nullptr).ignore();
  }
}

}  // namespace ckpt::engine
