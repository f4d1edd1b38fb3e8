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
using ckpt::sys::KernelAction;

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

bool is_door_signal(int signal) { return signal == ckpt::format::kQuietSignal || signal == g_state.public_signal; }
bool is_valid(int signal) { return signal >= 1 && signal <= ckpt::sys::kSignals; }

KernelAction from_libc(const LibcAction& action) {
  return {action.handler, static_cast<std::uint32_t>(action.flags), action.restorer, action.mask[0]};
}

void to_libc(const KernelAction& action, LibcAction* to) {
  to->handler = action.handler;
  to->mask[0] = action.mask;  // what is behind it means nothing, and glibc leaves it undefined, too
  to->flags = static_cast<std::int32_t>(action.flags);
  to->restorer = action.restorer;
}

int raw_sigaction(int signal, const KernelAction* action, KernelAction* old, std::uint64_t restorer) {
  KernelAction returning;
  if (action != nullptr) returning = {action->handler, action->flags | SA_RESTORER, restorer, action->mask};
  const auto result = ckpt::sys::set_action(signal, action != nullptr ? &returning : nullptr, old);
  return result.failed() ? ckpt::fail_with(result.error()) : 0;
}

using SigactionFunction = int(int, const LibcAction*, LibcAction*);
constinit SigactionFunction* libc_function = nullptr;

// What glibc lets handlers return through, once that is known. Its sigaction is a system call and no more, but for the signals that
// it keeps for itself, and for SIGABRT, which has a lock since 2.42; the kernel is asked directly then, which is quicker.
constinit std::uint64_t glibc_restorer = 0;

// What is behind us does its bookkeeping; without anything (an old glibc whose dlsym is not loaded) the kernel is asked.
int libc_sigaction(int signal, const KernelAction* action, KernelAction* old) {
  if (libc_function == nullptr) libc_function = reinterpret_cast<SigactionFunction*>(ckpt::find_in_libc("sigaction"));
  if (libc_function == nullptr) return raw_sigaction(signal, action, old, address_of(ckpt_restore_rt));
  LibcAction libc_new{};
  LibcAction libc_old{};
  if (action != nullptr) to_libc(*action, &libc_new);
  const int result = libc_function(signal, action != nullptr ? &libc_new : nullptr, old != nullptr ? &libc_old : nullptr);
  if (result == 0 && old != nullptr) *old = from_libc(libc_old);
  return result;
}

bool is_plain(int signal) {
  return signal != ckpt::format::kReservedSignal && signal != ckpt::format::kReservedSignal2 && signal != SIGABRT;
}

int learn_restorer(int signal, const KernelAction* action, KernelAction* old) {
  static constinit bool has_looked = false;
  const int result = libc_sigaction(signal, action, old);
  if (has_looked || result != 0 || action == nullptr || !is_plain(signal)) return result;
  has_looked = true;
  KernelAction set{};
  if (ckpt::is_of_glibc("sigaction", reinterpret_cast<const void*>(libc_function)) &&
      !ckpt::sys::set_action(signal, nullptr, &set).failed()) {
    glibc_restorer = set.restorer;
  }
  return result;
}

// From what the program asked to what the kernel is given.
void translate(int signal, KernelAction* action) {
  ckpt::ProgramAction* own = &ckpt_actions[signal];
  const std::uint64_t asked = action->handler;
  if (is_ours(asked)) return;
  if (is_function(asked)) {
    own->flags = action->flags;
    __atomic_store_n(&own->handler, asked, __ATOMIC_RELEASE);
    action->handler = address_of(is_door_signal(signal) ? ckpt_door : ckpt_trampoline);
    if (is_door_signal(signal)) action->flags = (action->flags & ~std::uint64_t{SA_RESETHAND}) | SA_SIGINFO;
    return;
  }
  if (!is_door_signal(signal)) return;
  own->handler = asked;
  own->flags = action->flags;
  const bool stays_open = asked == 0 || (asked == 1 && signal == ckpt::format::kQuietSignal);
  if (stays_open) *action = {address_of(ckpt_door), kDoorFlags, 0, ~0ULL};
}

// From what the kernel says to what the program is told.
void translate_back(int signal, const ckpt::ProgramAction& own, KernelAction* action) {
  if (!is_ours(action->handler)) return;
  action->handler = own.handler;
  if (!is_door_signal(signal)) return;
  action->flags = own.flags;
  if (own.handler <= 1) action->mask = 0;
}

int wrapped_sigaction(int signal, const LibcAction* action, LibcAction* old) {
  if (!is_valid(signal)) return ckpt::fail_with(ckpt::sys::kEinval);
  const ckpt::ProgramAction before = ckpt_actions[signal];
  KernelAction set;
  KernelAction was;
  if (action != nullptr) {
    set = from_libc(*action);
    translate(signal, &set);
  }
  const KernelAction* wanted = action != nullptr ? &set : nullptr;
  KernelAction* had = old != nullptr ? &was : nullptr;
  const bool is_known = glibc_restorer != 0 && is_plain(signal);
  const int result = is_known ? raw_sigaction(signal, wanted, had, glibc_restorer) : learn_restorer(signal, wanted, had);
  if (result != 0) {
    ckpt_actions[signal] = before;
    return result;
  }
  if (old == nullptr) return 0;
  translate_back(signal, before, &was);
  to_libc(was, old);
  return 0;
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
[[gnu::section(".data")]] constinit ProgramAction ckpt_actions[sys::kSignals + 1] = {};
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
