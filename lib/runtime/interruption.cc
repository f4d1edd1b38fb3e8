// No EINTR shows. Runs in the handler of each thread that is stopped; calls nothing but the kernel.
//
// The kernel ends a blocked call when a handler must run: some it restarts by itself afterwards (SA_RESTART; the frame then points
// at the `syscall` instruction), the others read −EINTR (signal(7)). Those are rewound here, by these rules:
//  - Whose EINTR is it? The `syscall` instruction leaves the address behind it in rcx, and our trampoline changes rcx in the frame
//    when a handler of the program starts behind a call. So −EINTR with rcx == rip is ours, and nobody else's.
//  - Which call was it? See interrupted-call.h.
//  - A handler of the program that starts after us at the rewound place is told (ckpt_note_handler): its call reads −EINTR, as it
//  would have.
#include "lib/runtime/interruption.h"

#include <linux/sched.h>
#include <linux/wait.h>

#include "lib/runtime/entry-points.h"
#include "lib/runtime/interrupted-call.h"
#include "lib/runtime/numbers.h"

extern "C" {
// Not zero from the first freeze on: trampolines call ckpt_note_handler.
[[gnu::visibility("hidden")]] std::uint32_t ckpt_watch_handlers = 0;
}

namespace ckpt {

namespace {

using format::SyscallFacts;

bool is_eintr(const sigcontext* registers) { return static_cast<long>(registers->rax) == -sys::kEintr; }

constexpr std::uint64_t kRedZone = 128;
constexpr std::uint64_t kDontWait = 0x40;  // MSG_DONTWAIT

// Room on the thread's own stack, below what it uses. Where the signal frame is right there, that of the siginfo in it: sigreturn
// needs the rest, up to the registers of the FPU at its top (arch/x86/kernel/signal.c, get_sigframe).
std::uint64_t room_for_resumed_call(const sigcontext* registers) {
  const std::uint64_t free = registers->rsp - kRedZone;
  const auto* fpu = reinterpret_cast<const _fpstate_64*>(registers->fpstate);
  if (fpu == nullptr) return free - sizeof(ResumedCall);
  const std::uint64_t size = fpu->sw_reserved.magic1 == FP_XSTATE_MAGIC1 ? fpu->sw_reserved.extended_size : sizeof(*fpu);
  const std::uint64_t top = reinterpret_cast<std::uint64_t>(fpu) + size;
  constexpr std::uint64_t kAlignment = 64;
  if (free < top || free - top >= kAlignment) return free - sizeof(ResumedCall);  // the frame is on an alternate stack
  static_assert(sizeof(ResumedCall) <= sizeof(siginfo_t));
  return reinterpret_cast<std::uint64_t>(registers) - offsetof(::ucontext, uc_mcontext) + sizeof(::ucontext);
}

// Lets the call go on through ckpt_resumed_call; the program gets its own registers back afterwards.
ResumedCall* resume_call(sigcontext* registers, long number) {
  if (registers->rip != reinterpret_cast<std::uint64_t>(ckpt_resumed_call_end)) {
    auto* resumed = reinterpret_cast<ResumedCall*>(room_for_resumed_call(registers));
    *resumed = {registers->rip, registers->rdi, registers->rsi, registers->rdx, registers->r10, registers->r8, number, 0,
                registers->rsp};
    registers->rsp = reinterpret_cast<std::uint64_t>(resumed);
  }
  registers->rip = reinterpret_cast<std::uint64_t>(ckpt_resumed_call);
  registers->rax = static_cast<std::uint64_t>(number);
  return reinterpret_cast<ResumedCall*>(registers->rsp);
}

// The same with one argument changed.
void rewind_with(sigcontext* registers, long number, unsigned argument, std::uint64_t value) {
  resume_call(registers, number);
  *argument_register(registers, argument) = value;
}

// A blocking write to a pipe, socket or terminal, which ends early for nothing but a signal; or a read that was to wait for all.
// (What another read returns early is as good as what it returns late.)
struct Transfer {
  bool is_in_pieces = false;
  CarriedTransfer::Message* message = nullptr;  // of sendmsg and recvmsg
  const CarriedTransfer::Piece* pieces = nullptr;
  std::uint64_t piece_count = 0;
  std::uint64_t wanted = 0;  // bytes; 0: it is no such call
};

bool is_socket(int fd) {
  constexpr int kSocketLevel = 1, kType = 3;  // SOL_SOCKET, SO_TYPE
  int type = 0;
  unsigned size = sizeof(type);
  return !sys::call(__NR_getsockopt, fd, kSocketLevel, kType, &type, &size).failed();
}

Transfer transfer_of(long number, const sigcontext* registers) {
  constexpr std::uint64_t kWaitAll = 0x100, kPeek = 0x2;  // MSG_*
  constexpr long kPwritev2 = 328;
  const auto waits_for_all = [](std::uint64_t flags) { return (flags & (kWaitAll | kDontWait | kPeek)) == kWaitAll; };
  Transfer transfer;
  if (number == __NR_write || (number == __NR_sendto && (registers->r10 & kDontWait) == 0) ||
      (number == __NR_recvfrom && waits_for_all(registers->r10))) {
    transfer.wanted = registers->rdx;
  } else if (number == __NR_sendfile && is_socket(static_cast<int>(registers->rdi))) {  // to a pipe it does end early
    transfer.wanted = registers->r10;
  } else if (number == __NR_writev || (number == kPwritev2 && registers->r10 == ~0ULL)) {
    transfer.pieces = reinterpret_cast<const CarriedTransfer::Piece*>(registers->rsi);
    transfer.piece_count = registers->rdx;
  } else if ((number == __NR_sendmsg && (registers->rdx & kDontWait) == 0) ||
             (number == __NR_recvmsg && waits_for_all(registers->rdx))) {
    transfer.message = reinterpret_cast<CarriedTransfer::Message*>(registers->rsi);
    transfer.pieces = reinterpret_cast<const CarriedTransfer::Piece*>(transfer.message->pieces);
    transfer.piece_count = transfer.message->piece_count;
  }
  transfer.is_in_pieces = transfer.pieces != nullptr;
  for (std::uint64_t i = 0; i < transfer.piece_count; ++i) transfer.wanted += transfer.pieces[i].size;
  return transfer;
}

bool is_cut_short(const Transfer& transfer, const sigcontext* registers) {
  if (registers->rax >= transfer.wanted) return false;
  const auto flags = sys::call(__NR_fcntl, static_cast<int>(registers->rdi), F_GETFL);
  return !flags.failed() && (flags.value() & O_NONBLOCK) == 0;
}

// The kernel has taken its own copy when the call begins, so a second interruption may write over this one. Control data went, or
// came, with the first part.
void carry_on_in_pieces(const Transfer& transfer, std::uint64_t done, CarriedTransfer* carried, sigcontext* registers) {
  std::uint64_t count = 0;
  for (std::uint64_t i = 0; i < transfer.piece_count && count < std::size(carried->pieces); ++i) {
    CarriedTransfer::Piece piece = transfer.pieces[i];
    const std::uint64_t passed = done < piece.size ? done : piece.size;
    done -= passed;
    piece = {piece.base + passed, piece.size - passed};
    if (piece.size > 0) carried->pieces[count++] = piece;
  }
  const auto pieces = reinterpret_cast<std::uint64_t>(carried->pieces);
  if (transfer.message == nullptr) {
    registers->rsi = pieces;
    registers->rdx = count;
    return;
  }
  carried->message = {transfer.message->name, transfer.message->name_size, pieces, count, 0, 0, 0};
  registers->rsi = reinterpret_cast<std::uint64_t>(&carried->message);
}

void carry_on(sigcontext* registers, long number, const Transfer& transfer, ThreadSlot* slot) {
  const std::uint64_t count = registers->rax;
  if (transfer.is_in_pieces && slot == nullptr) return;  // no room for them
  ResumedCall* resumed = resume_call(registers, number);
  resumed->done += count;
  if (transfer.is_in_pieces) {
    carry_on_in_pieces(transfer, count, &slot->carried, registers);
  } else if (number == __NR_sendfile) {
    registers->r10 -= count;  // the kernel moves the offset
  } else {
    registers->rsi += count;
    registers->rdx -= count;
  }
}

void rewind(sigcontext* registers, long number) {
  registers->rip -= 2;
  registers->rax = static_cast<std::uint64_t>(number);
}

std::uint64_t nanoseconds(const __kernel_timespec& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

// A process of a few instructions that goes to the CPU where the thread fell asleep and reads the scheduler's clock there: the
// thread's own affinity is not to be touched, and a fork by another thread must not find the file open.
int read_clock_there(void* argument) {
  auto* slot = static_cast<ThreadSlot*>(argument);
  std::uint64_t set[16]{};
  set[slot->before.cpu / 64 % 16] = 1ULL << slot->before.cpu % 64;
  if (sys::call(__NR_sched_setaffinity, 0, sizeof(set), set).failed()) return 0;
  slot->clock_there = read_exec_start("/proc/thread-self/sched", slot->scratch);
  return 0;
}

// How long the thread had waited in its call, by the clock of the CPU that it fell asleep on: those of others differ by all the
// time that interrupts and the hypervisor ever took from them.
std::uint64_t waited_ns(ThreadSlot* slot) {
  if (slot->before.slept_since_ns == 0) return 0;
  slot->clock_there = 0;
  const long stub = ckpt_clone_on(CLONE_VM | CLONE_VFORK, slot->stub_stack + sizeof(slot->stub_stack), read_clock_there, slot);
  if (stub > 0) sys::call(__NR_wait4, stub, nullptr, __WCLONE, nullptr).ignore();
  const std::uint64_t now = slot->clock_there != 0 ? slot->clock_there : read_exec_start("/proc/thread-self/sched", slot->scratch);
  return now > slot->before.slept_since_ns ? now - slot->before.slept_since_ns : 0;
}

void rewind_timespec(sigcontext* registers, long number, unsigned argument, ThreadSlot* slot) {
  const auto* given = reinterpret_cast<const __kernel_timespec*>(*argument_register(registers, argument));
  if (given == nullptr) return rewind(registers, number);
  const std::uint64_t total = nanoseconds(*given);
  const std::uint64_t waited = waited_ns(slot);
  const std::uint64_t left = waited < total ? total - waited : 1;
  slot->left = {static_cast<long long>(left / 1'000'000'000), static_cast<long long>(left % 1'000'000'000)};
  rewind_with(registers, number, argument, reinterpret_cast<std::uint64_t>(&slot->left));
}

// nanosleep and clock_nanosleep: the kernel has written what is left to `remaining` (argument + 1), if that was given.
void rewind_sleep(sigcontext* registers, long number, unsigned argument, ThreadSlot* slot) {
  const std::uint64_t remaining = *argument_register(registers, argument + 1);
  if (remaining == 0) return rewind_timespec(registers, number, argument, slot);
  slot->left = *reinterpret_cast<const __kernel_timespec*>(remaining);
  rewind_with(registers, number, argument, reinterpret_cast<std::uint64_t>(&slot->left));
}

void rewind_milliseconds(sigcontext* registers, long number, unsigned argument, ThreadSlot* slot) {
  const auto given = static_cast<int>(*argument_register(registers, argument));
  if (given <= 0) return rewind(registers, number);
  const std::uint64_t waited = waited_ns(slot) / 1'000'000;
  const std::uint64_t left = waited < static_cast<std::uint64_t>(given) ? static_cast<std::uint64_t>(given) - waited : 0;
  rewind_with(registers, number, argument, left);
}

void rewind_by_rule(sigcontext* registers, long number, const Rule& rule, ThreadSlot* slot) {
  constexpr std::uint64_t kAbsolute = 1;  // TIMER_ABSTIME
  switch (rule.timeout) {
    case Timeout::kNone:
      return rewind(registers, number);
    case Timeout::kMilliseconds:
      return rewind_milliseconds(registers, number, rule.argument, slot);
    case Timeout::kTimespec:
      return rewind_timespec(registers, number, rule.argument, slot);
    case Timeout::kSleep:
      return rewind_sleep(registers, number, rule.argument, slot);
    case Timeout::kClockSleep:
      if ((registers->rsi & kAbsolute) != 0) return rewind(registers, number);
      return rewind_sleep(registers, number, rule.argument, slot);
    case Timeout::kFutex:
      if ((registers->rsi & FUTEX_CMD_MASK) != FUTEX_WAIT) return rewind(registers, number);
      return rewind_timespec(registers, number, rule.argument, slot);
  }
}

// A handled signal that will be delivered at the end of our handler: the call was to end for it. Those that come in by our own
// handler may be ours, and it says so itself where they are not.
bool is_handler_due(const ::ucontext* context) {
  std::uint64_t due = sys::pending_signals() & ~context->uc_sigmask;
  for (int signal = 1; due != 0; ++signal, due >>= 1) {
    if ((due & 1) == 0) continue;
    sys::KernelAction action{};
    sys::set_action(signal, nullptr, &action).ignore();
    if (action.handler > 1 && action.handler != reinterpret_cast<std::uint64_t>(ckpt_door)) return true;
  }
  return false;
}

constexpr unsigned kMarkWindow = 32;  // entries that may hold the mark of one thread
ThreadMark* mark_in_window(std::uint64_t pointer, unsigned step) {
  constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio: spreads what differs in high bits only
  return &g_state.tables->marks[((pointer * kGolden >> 40) + step) % kMarks];
}

// Of the calling thread; nullptr: it has none.
ThreadMark* find_mark() {
  if (g_state.tables == nullptr) return nullptr;
  const std::uint64_t pointer = thread_pointer();
  for (unsigned step = 0; step < kMarkWindow; ++step) {
    ThreadMark* mark = mark_in_window(pointer, step);
    if (__atomic_load_n(&mark->thread_pointer, __ATOMIC_RELAXED) == pointer) return mark;
  }
  return nullptr;
}

// A thread that was stopped in an earlier freeze, and stands at its rewound call still, has been stopped in this one as well or
// will be, and renews its mark then: so one that is older than the last freeze is of no use any more.
ThreadMark* make_mark() {
  if (tables() == nullptr) return nullptr;
  if (ThreadMark* mark = find_mark(); mark != nullptr) return mark;
  const std::uint64_t pointer = thread_pointer();
  for (unsigned step = 0; step < kMarkWindow; ++step) {
    ThreadMark* mark = mark_in_window(pointer, step);
    std::uint64_t owner = __atomic_load_n(&mark->thread_pointer, __ATOMIC_ACQUIRE);
    const bool is_free = owner == 0 || mark->generation + 1 < g_state.generation;
    if (is_free && __atomic_compare_exchange_n(&mark->thread_pointer, &owner, pointer, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
      return mark;
    }
  }
  return nullptr;
}

void remember_rewound(std::uint64_t pc, bool is_restartable) {
  ThreadMark* mark = make_mark();
  if (mark == nullptr) return;
  mark->rewound_pc = pc;
  mark->is_restartable = is_restartable ? 1 : 0;
  mark->generation = g_state.generation;
}

// `slot` is nullptr for want of facts: a call with a timeout then starts from its beginning.
void hide_end_of_call(::ucontext* context, ThreadSlot* slot) {
  sigcontext* registers = &context->uc_mcontext;
  const bool is_count = static_cast<long>(registers->rax) > 0;
  if (!is_behind_call(registers) || (!is_eintr(registers) && !is_count)) return;
  const long number = number_of_call(slot != nullptr ? slot->before : format::SyscallFacts{}, registers);
  if (is_eintr(registers)) {
    const Rule* rule = rule_for(number);
    if (rule == nullptr || is_handler_due(context)) return;
    if (slot != nullptr) {
      rewind_by_rule(registers, number, *rule, slot);
    } else {
      rewind(registers, number);
    }
    remember_rewound(registers->rip, false);
  } else if (const Transfer transfer = transfer_of(number, registers);
             is_cut_short(transfer, registers) && !is_handler_due(context)) {
    carry_on(registers, number, transfer, slot);
  }
}

}  // namespace

void hide_interruption(::ucontext* context, ThreadSlot* slot) {
  sigcontext* registers = &context->uc_mcontext;
  if (is_syscall_instruction(registers->rip) && registers->rcx == registers->rip + 2) {
    const ThreadMark* mark = find_mark();
    const bool is_known = mark != nullptr && mark->rewound_pc == registers->rip;  // put there by us, and not gone on yet
    remember_rewound(registers->rip, !is_known || mark->is_restartable != 0);     // else the kernel restarts it
    return;
  }
  hide_end_of_call(context, slot);
}

void hide_stray_interruption(::ucontext* context) { hide_end_of_call(context, nullptr); }

}  // namespace ckpt

// A handler of the program starts. If its thread stands at a call that we rewound, the call was interrupted by this very signal: it
// reads −EINTR after the handler, unless the kernel would have restarted it.
extern "C" [[gnu::visibility("hidden")]] void ckpt_note_handler(int signal, siginfo_t* info, ::ucontext* context) {
  using namespace ckpt;
  show_sender_of(info);
  sigcontext* registers = &context->uc_mcontext;
  ThreadMark* mark = find_mark();
  const bool is_marked = mark != nullptr && mark->rewound_pc == registers->rip && mark->rewound_pc != 0;
  if (!is_marked && registers->rip != reinterpret_cast<std::uint64_t>(ckpt_resumed_call)) return;
  const bool is_restartable = is_marked && mark->is_restartable != 0;
  if (is_marked) mark->rewound_pc = 0;
  if (is_restartable) {
    sys::KernelAction action{};
    sys::set_action(signal, nullptr, &action).ignore();
    if ((action.flags & SA_RESTART) != 0) return;
  }
  registers->rip += 2;
  registers->rax = static_cast<std::uint64_t>(-sys::kEintr);
  registers->rcx = registers->rip;  // the trampoline changes it
}
