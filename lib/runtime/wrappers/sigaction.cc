// Wrappers of sigaction(2), signal(3) and their relatives: the one family of libc calls that is wrapped, for two reasons.
//  - Our door signals must stay ours while the program believes that it has them: SIGURG, and SIGUSR2 (or what -s said).
//  - A handler of the program that runs between our look at a thread and our signal must be known, or a wake-up is lost
//    (interruption.cc): handlers are entered through a trampoline of five instructions.
// The kernel's table stays the truth for flags and masks; only the handler's address is exchanged, in both directions.
#include <cstddef>

#include "lib/resources/collector.h"
#include "lib/runtime/entry-points.h"
#include "lib/runtime/state.h"
#include "lib/runtime/wrappers/libc.h"

namespace {

using ckpt::ckpt_actions;
using ckpt::g_state;

using Handler = void (*)(int);

// struct sigaction of glibc and musl on x86-64.
struct LibcAction {
  std::uint64_t handler;
  std::uint64_t mask[16];
  std::int32_t flags;
  std::int32_t padding;
  std::uint64_t restorer;
};

constexpr std::uint64_t kDoorFlags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;

std::uint64_t address_of(void (*function)()) { return reinterpret_cast<std::uint64_t>(function); }
bool is_ours(std::uint64_t handler) { return handler == address_of(ckpt_door) || handler == address_of(ckpt_trampoline); }
bool is_function(std::uint64_t handler) { return handler > 2 && handler != ~0ULL; }  // none of SIG_DFL, SIG_IGN, SIG_HOLD, SIG_ERR

int public_signal() {
  return g_state.control != nullptr ? static_cast<int>(g_state.control->settings.public_signal) : ckpt::format::kPublicSignal;
}
bool is_door_signal(int signal) { return signal == ckpt::format::kQuietSignal || signal == public_signal(); }
bool is_valid(int signal) { return signal >= 1 && signal <= ckpt::sys::kSignals; }

int raw_sigaction(int signal, const LibcAction* action, LibcAction* old) {
  ckpt::sys::KernelAction kernel_new{};
  ckpt::sys::KernelAction kernel_old{};
  if (action != nullptr) {
    kernel_new = {action->handler, static_cast<std::uint32_t>(action->flags) | static_cast<std::uint64_t>(SA_RESTORER),
                  address_of(ckpt_restore_rt), action->mask[0]};
  }
  const auto result = ckpt::sys::set_action(signal, action != nullptr ? &kernel_new : nullptr, &kernel_old);
  if (result.failed()) return ckpt::fail_with(result.error());
  if (old != nullptr) {
    *old = {};
    old->handler = kernel_old.handler;
    old->mask[0] = kernel_old.mask;
    old->flags = static_cast<std::int32_t>(kernel_old.flags & ~static_cast<std::uint64_t>(SA_RESTORER));
    old->restorer = kernel_old.restorer;
  }
  return 0;
}

using SigactionFunction = int(int, const LibcAction*, LibcAction*);

// libc's own sigaction does its bookkeeping; without one (an old glibc whose dlsym is not loaded) the kernel is asked.
int libc_sigaction(int signal, const LibcAction* action, LibcAction* old) {
  static constinit SigactionFunction* function = nullptr;
  if (function == nullptr) {
    auto* found = reinterpret_cast<SigactionFunction*>(ckpt::find_in_libc("sigaction"));
    function = found != nullptr ? found : raw_sigaction;
  }
  return function(signal, action, old);
}

// What the kernel is given for what the program asked.
LibcAction to_kernel(int signal, const LibcAction& asked) {
  LibcAction action = asked;
  ckpt::ProgramAction* own = &ckpt_actions[signal];
  if (is_function(asked.handler) && !is_ours(asked.handler)) {
    own->flags = static_cast<std::uint32_t>(asked.flags);
    __atomic_store_n(&own->handler, asked.handler, __ATOMIC_RELEASE);
    action.handler = address_of(is_door_signal(signal) ? ckpt_door : ckpt_trampoline);
    if (is_door_signal(signal))
      action.flags = static_cast<std::int32_t>((static_cast<std::uint32_t>(asked.flags) & ~SA_RESETHAND) | SA_SIGINFO);
    return action;
  }
  if (!is_door_signal(signal) || is_ours(asked.handler)) return action;
  own->handler = asked.handler;
  own->flags = static_cast<std::uint32_t>(asked.flags);
  const bool stays_open = asked.handler == 0 || (asked.handler == 1 && signal == ckpt::format::kQuietSignal);
  if (!stays_open) return action;
  action.handler = address_of(ckpt_door);
  action.flags = static_cast<std::int32_t>(kDoorFlags);
  for (std::uint64_t& word : action.mask) word = ~0ULL;
  return action;
}

// What the program is told.
void from_kernel(int signal, const ckpt::ProgramAction& own, LibcAction* action) {
  if (!is_ours(action->handler)) return;
  action->handler = own.handler;
  if (!is_door_signal(signal)) return;
  action->flags = static_cast<std::int32_t>(own.flags);
  if (own.handler <= 1) {
    for (std::uint64_t& word : action->mask) word = 0;
  }
}

int wrapped_sigaction(int signal, const LibcAction* action, LibcAction* old) {
  if (!is_valid(signal)) return libc_sigaction(signal, action, old);
  const ckpt::ProgramAction before = ckpt_actions[signal];
  LibcAction translated;
  if (action != nullptr) translated = to_kernel(signal, *action);
  const int result = libc_sigaction(signal, action != nullptr ? &translated : nullptr, old);
  if (result != 0) {
    ckpt_actions[signal] = before;
  } else if (old != nullptr) {
    from_kernel(signal, before, old);
  }
  return result;
}

// signal(3) in its three flavours: flags are all that differs.
std::uint64_t wrapped_signal(int signal, std::uint64_t handler, std::uint32_t flags, bool masks_itself) {
  LibcAction action{};
  LibcAction old{};
  action.handler = handler;
  action.flags = static_cast<std::int32_t>(flags);
  if (masks_itself && is_valid(signal)) action.mask[0] = ckpt::sys::signal_bit(signal);
  if (handler == ~0ULL) {
    ckpt::fail_with(ckpt::sys::kEinval);
    return ~0ULL;
  }
  return wrapped_sigaction(signal, &action, &old) != 0 ? ~0ULL : old.handler;
}

// Signals for which siginterrupt(3) asked that signal(3) leaves SA_RESTART out.
constinit std::uint64_t interrupting = 0;

}  // namespace

namespace ckpt {

extern "C" {
constinit ProgramAction ckpt_actions[sys::kSignals + 1] = {};
}

}  // namespace ckpt

extern "C" {

#define CKPT_EXPORT [[gnu::visibility("default")]]

CKPT_EXPORT int sigaction(int signal, const LibcAction* action, LibcAction* old) { return wrapped_sigaction(signal, action, old); }
CKPT_EXPORT int __sigaction(int signal, const LibcAction* action, LibcAction* old) {
  return wrapped_sigaction(signal, action, old);
}

CKPT_EXPORT std::uint64_t signal(int signal, std::uint64_t handler) {
  const bool restarts = !is_valid(signal) || (interrupting & ckpt::sys::signal_bit(signal)) == 0;
  return wrapped_signal(signal, handler, restarts ? SA_RESTART : 0, true);
}
CKPT_EXPORT std::uint64_t bsd_signal(int number, std::uint64_t handler) { return signal(number, handler); }
CKPT_EXPORT std::uint64_t ssignal(int number, std::uint64_t handler) { return signal(number, handler); }
CKPT_EXPORT std::uint64_t sysv_signal(int signal, std::uint64_t handler) {
  return wrapped_signal(signal, handler, SA_RESETHAND | SA_NODEFER, false);
}
CKPT_EXPORT std::uint64_t __sysv_signal(int signal, std::uint64_t handler) { return sysv_signal(signal, handler); }

CKPT_EXPORT int siginterrupt(int signal, int flag) {
  LibcAction action{};
  if (wrapped_sigaction(signal, nullptr, &action) != 0) return -1;
  const std::uint64_t bit = ckpt::sys::signal_bit(signal);
  interrupting = flag != 0 ? interrupting | bit : interrupting & ~bit;
  const auto flags = static_cast<std::uint32_t>(action.flags);
  action.flags = static_cast<std::int32_t>(flag != 0 ? flags & ~static_cast<std::uint32_t>(SA_RESTART) : flags | SA_RESTART);
  return wrapped_sigaction(signal, &action, nullptr);
}

CKPT_EXPORT int sigignore(int number) { return wrapped_signal(number, 1, 0, false) == ~0ULL ? -1 : 0; }

// X/Open: SIG_HOLD (2) blocks the signal, anything else unblocks it.
CKPT_EXPORT std::uint64_t sigset(int number, std::uint64_t handler) {
  if (!is_valid(number)) return static_cast<std::uint64_t>(ckpt::fail_with(ckpt::sys::kEinval));
  const std::uint64_t bit = ckpt::sys::signal_bit(number);
  std::uint64_t before = 0;
  ckpt::sys::call(__NR_rt_sigprocmask, handler == 2 ? SIG_BLOCK : SIG_UNBLOCK, &bit, &before, 8).ignore();
  LibcAction old{};
  if (handler == 2) {
    if (wrapped_sigaction(number, nullptr, &old) != 0) return ~0ULL;
  } else {
    old.handler = wrapped_signal(number, handler, 0, false);
  }
  return (before & bit) != 0 ? 2 : old.handler;
}
}
