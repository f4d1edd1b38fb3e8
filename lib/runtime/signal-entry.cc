// Where signals come in: door signals, stop signals, and the program's own that share their numbers. In a handler, any instruction.
#include <cstddef>

#include "lib/runtime/checkpoint.h"
#include "lib/runtime/entry-points.h"
#include "lib/runtime/freeze.h"
#include "lib/runtime/interrupted-call.h"
#include "lib/runtime/stolen-signals.h"

extern "C" {
extern std::uint32_t ckpt_watch_handlers;
}

namespace ckpt {

namespace {

constexpr std::uint64_t kAllSignals = ~0ULL;

// A forked child has a copy of our state, in which its parent may have been in the middle of a checkpoint.
void notice_fork() {
  const int pid = sys::getpid();
  if (g_state.pid == pid) return;
  g_state.pid = pid;
  g_state.is_busy = g_state.gate = g_state.inside = 0;
}

// The handler that the program wants for a signal that is ours as well; 0: none.
std::uint64_t program_handler(int signal) {
  if (signal == format::kReservedSignal || signal == format::kReservedSignal2) {
    const std::uint64_t handler = stolen_action(signal)->handler;
    return handler > 1 ? handler : 0;
  }
  ProgramAction* action = &ckpt_actions[signal];
  const std::uint64_t handler = action->handler;
  if (handler <= 1) return 0;
  if ((action->flags & SA_RESETHAND) != 0) action->handler = 0;  // kept from the kernel: our own signals must not use it up
  return handler;
}

// As the trampoline does for all other signals: what this handler ends early is the program's own affair.
void mark_interrupted(::ucontext* context) {
  sigcontext* registers = &context->uc_mcontext;
  if (is_behind_call(registers)) registers->rcx = ~0ULL;
}

}  // namespace
}  // namespace ckpt

extern "C" [[gnu::visibility("hidden")]] std::uint64_t ckpt_on_signal(int signal, siginfo_t* info, ::ucontext* context) {
  using namespace ckpt;
  static_assert(offsetof(ProgramAction, handler) == 0 && sizeof(ProgramAction) == 16);  // entry-points.S
  notice_fork();
  const auto value = reinterpret_cast<std::uint64_t>(info->si_ptr);
  if (info->si_code == format::kFreezeCode) {
    sys::set_mask(kAllSignals);
    park(static_cast<unsigned>(value & 0xffffffffU), static_cast<std::uint32_t>(value >> 32), signal, context);
    return 0;
  }
  if (info->si_code == format::kDoorCode) {
    sys::set_mask(kAllSignals);
    run_checkpoint(context, static_cast<std::uint32_t>(value));
    return 0;
  }
  if (info->si_code == format::kMemberCode) {
    sys::set_mask(kAllSignals);
    run_member(context, static_cast<int>(value >> 32), static_cast<int>(value & 0xffffffffU));
    return 0;
  }
  if (signal == g_state.public_signal && ckpt_actions[signal].handler == 0) {
    sys::set_mask(kAllSignals);
    run_checkpoint(context, kBareSignal);
    return 0;
  }
  const std::uint64_t handler = program_handler(signal);
  if (handler != 0 && ckpt_watch_handlers != 0) ckpt_note_handler(signal, info, context);
  if (handler != 0) mark_interrupted(context);
  return handler;
}
