// Where libckpt.so begins and ends in a program: its constructor and destructor. Must do little, and nothing that can fail the
// program.
//
// Without them (a later injection into a running process) the first door signal would do: run_checkpoint opens the control page
// itself.
#include "lib/runtime/control.h"
#include "lib/runtime/dispatchers.h"
#include "lib/runtime/entry-points.h"
#include "lib/runtime/state.h"
#include "lib/sys/arch/x86_64/emulator.h"

namespace ckpt {

namespace {

constexpr std::uint64_t kDoorFlags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_RESTORER;

// Takes a signal nobody handles yet. What the program was started with as ignored stays so, but for SIGURG, where that is the
// default, and for the two of libc, which a program can't even ask about.
void open_door(int signal) {
  sys::KernelAction current{};
  if (sys::set_action(signal, nullptr, &current).failed()) return;
  if (current.handler > 1 || (current.handler == 1 && signal == g_state.public_signal)) return;
  const sys::KernelAction ours{reinterpret_cast<std::uint64_t>(ckpt_door), kDoorFlags,
                               reinterpret_cast<std::uint64_t>(ckpt_restore_rt), ~0ULL};
  sys::set_action(signal, &ours, nullptr).ignore();
}

[[gnu::constructor]] void enter_program() {
  if (sys::is_emulated()) return;  // ckpt-trigger says so
  join_neighbour();
  g_state.pid = sys::getpid();
  open_control();
  forget_dispatcher();  // that we were before an exec
  open_door(format::kQuietSignal);
  open_door(g_state.public_signal);
  open_door(format::kReservedSignal);
  open_door(format::kReservedSignal2);
  g_state.is_ready = 1;
}

[[gnu::destructor]] void leave_program() { remove_control(); }

}  // namespace

}  // namespace ckpt
