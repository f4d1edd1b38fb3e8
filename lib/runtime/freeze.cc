// The freeze: a leader (the thread that took the door signal) stops every other thread of its process.
//
// Order, by the leader, in its handler with all signals blocked:
//  1. walk /proc/self/task; for a thread not seen yet: look whether it blocks SIGURG, read where it is, send it a signal with a
//  token;
//  2. wait for arrivals, a few milliseconds at most, and walk again;
//  3. done when a walk found nobody new and all that it found stand.
// Which signal: SIGURG, because a thread caught in an exec survives it (its default is to be ignored). A thread that blocks SIGURG
// gets 33, then 32: no sigfillset or sigprocmask of glibc blocks those. They belong to libc, which takes them once, when it first
// needs them; from the first freeze that needs them they are ours, and what comes without our token is passed on at once.
#include "lib/runtime/freeze.h"

#include "lib/resources/collector.h"
#include "lib/resources/threads/collect.h"
#include "lib/resources/timers/collect-due.h"
#include "lib/runtime/aside.h"
#include "lib/runtime/entry-points.h"
#include "lib/runtime/interrupted-call.h"
#include "lib/runtime/interruption.h"
#include "lib/runtime/stolen-signals.h"
#include "lib/sys/proc-file.h"

extern "C" {
extern std::uint32_t ckpt_watch_handlers;
}

namespace ckpt {

namespace {

constexpr int kPrGetName = 16;
constexpr int kPrGetTidAddress = 40;
constexpr int kArchGetFs = 0x1003;
constexpr int kArchGetGs = 0x1004;
constexpr std::uint32_t kRseqSignature = 0x53053053;
constexpr std::uint32_t kRseqSize = 32;
constexpr std::int64_t kResendAfterNs = 20'000'000;
constexpr unsigned kMaxPending = 1024;
constexpr std::uint32_t kGenerationMask = 0x7fffffff;  // the gate holds twice as much
constexpr std::uint32_t kForgetAfter = 8;              // freezes in which a slot was not met

struct ThreadLook {
  char state = 'Z';
  bool blocks_urgent = false;
  bool is_kernels = false;  // works for an io_uring: runs no code of the program, and takes no signals
};

// State and mask from /proc/self/task/TID/stat, which is much cheaper than status; its mask has the first 31 signals.
ThreadLook look_at(int tid) {
  const sys::StatFile stat(sys::task_path(tid, "stat").c_str());
  if (!stat.is_read()) return {};
  constexpr std::uint64_t kIoWorker = 0x10;  // PF_IO_WORKER of include/linux/sched.h
  return {*stat.field(3), (stat.number(32) & sys::signal_bit(format::kQuietSignal)) != 0, (stat.number(9) & kIoWorker) != 0};
}

// sigwait and its relatives unblock for the kernel what they wait for, and would take our signal for the program's. The set is in
// our own memory; a thread that has moved on since may have released it, so it is read through the kernel.
bool waits_for_urgent(const format::SyscallFacts& facts) {
  if (facts.is_set == 0 || facts.number != __NR_rt_sigtimedwait) return false;
  std::uint64_t set = 0;
  const struct {
    void* base;
    std::uint64_t size;
  } to{&set, sizeof(set)}, from{reinterpret_cast<void*>(facts.arguments[0]), sizeof(set)};
  const auto count = sys::call(__NR_process_vm_readv, g_state.pid, &to, 1, &from, 1, 0);
  if (count.failed()) set = *reinterpret_cast<const std::uint64_t*>(facts.arguments[0]);
  return (set & sys::signal_bit(format::kQuietSignal)) != 0;
}

void send_stop(ThreadSlot* slot, unsigned index) {
  const ThreadLook look = look_at(slot->tid);
  if (look.state == 'Z' || look.state == 'X' || look.is_kernels) {
    slot->state = ThreadSlot::kFree;
    return;
  }
  format::SyscallFacts facts;
  read_syscall_facts(slot->tid, &facts);
  // Only once: when it is sent again, the thread may be reading them this very moment.
  if (slot->tries == 0) slot->before = facts;
  const bool is_in_exec = facts.is_set != 0 && (facts.number == __NR_execve || facts.number == __NR_execveat);
  const bool is_read = (g_state.read_signals & sys::signal_bit(format::kQuietSignal)) != 0;
  unsigned choice = (is_read || look.blocks_urgent || waits_for_urgent(facts)) && !is_in_exec ? 1 : 0;
  if (choice == 1 && slot->tries % 2 == 1) choice = 2;
  ++slot->tries;
  if (choice > 0) steal(kStopSignals[choice]);
  siginfo_t info{};
  info.si_signo = kStopSignals[choice];
  info.si_code = format::kFreezeCode;
  info.si_pid = g_state.pid;
  info.si_ptr = reinterpret_cast<void*>(static_cast<std::uint64_t>(g_state.generation) << 32 | index);
  slot->sent |= 1U << choice;
  slot->sent_ns = sys::clock_ns(CLOCK_MONOTONIC);
  // Sent again, the thread may be arriving this very moment: its word counts then.
  if (slot->tries == 1) __atomic_store_n(&slot->state, ThreadSlot::kSignalled, __ATOMIC_RELEASE);
  if (sys::queue_to_thread(g_state.pid, slot->tid, kStopSignals[choice], &info).error() == sys::kEsrch)
    slot->state = ThreadSlot::kFree;
}

struct Walk {
  unsigned found = 0;
  unsigned standing = 0;
  bool has_new = false;
  int waiting_for = 0;
};

// One pass over /proc/self/task. False: no memory or descriptor for it.
bool walk_threads(int leader, Walk* walk, Message* message) {
  const int self = sys::gettid();
  char buffer[1024];
  sys::NumberDirectory tasks("/proc/self/task", buffer);
  if (!tasks.is_open()) {
    message->add("cannot list the threads of process ")
        .add_signed(g_state.pid)
        .add(": no descriptor left, or /proc is not mounted");
    return false;
  }
  for (int tid = tasks.next(); tid >= 0; tid = tasks.next()) {
    if (tid == leader || tid == self) continue;
    unsigned index = 0;
    ThreadSlot* slot = slot_for(tid, &index);
    if (slot == nullptr) {
      message->add("cannot stop thread ").add_signed(tid).add(": out of memory");
      return false;
    }
    if (slot->generation != g_state.generation) {
      slot->generation = g_state.generation;
      slot->state = ThreadSlot::kKnown;
      slot->sent = slot->tries = 0;
    }
    const std::uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
    const bool is_new = state == ThreadSlot::kKnown || state == ThreadSlot::kFree;
    if (is_new || (state == ThreadSlot::kSignalled && sys::clock_ns(CLOCK_MONOTONIC) - slot->sent_ns > kResendAfterNs)) {
      send_stop(slot, index);
    }
    const std::uint32_t now = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
    if (now == ThreadSlot::kFree) continue;
    walk->has_new |= is_new;
    ++walk->found;
    if (now == ThreadSlot::kFrozen) {
      ++walk->standing;
    } else {
      walk->waiting_for = tid;
    }
  }
  return true;
}

void name_stubborn_thread(int tid, Message* message) {
  char name[32] = "";
  if (!sys::read_file(sys::task_path(tid, "comm").c_str(), name, sizeof(name)).failed()) {
    for (char& c : name) c = c == '\n' ? '\0' : c;
  }
  const ThreadLook look = look_at(tid);
  message->add("thread ")
      .add_signed(tid)
      .add(" (")
      .add(name)
      .add(") of process ")
      .add_signed(g_state.pid)
      .add(" did not stop in time: ");
  message->add(look.state == 'D'    ? "it is in an uninterruptible call"
               : look.state == 't'  ? "a debugger holds it"
               : look.state == 'T'  ? "it is stopped"
               : look.blocks_urgent ? "it blocks every signal"
                                    : "it does not take signals");
}

// Signals of ours that were sent to this thread and not needed: they must not interrupt anything later.
void swallow_leftovers(ThreadSlot* slot) {
  std::uint64_t set = 0;
  for (unsigned choice = 0; choice < 3; ++choice) {
    if ((slot->sent & 1U << choice) != 0) set |= sys::signal_bit(kStopSignals[choice]);
  }
  if (slot->tries < 2 || (sys::pending_signals() & set) == 0) return;
  siginfo_t strangers[8];
  unsigned count = 0;
  siginfo_t info;
  while (count < 8 && !sys::take_pending(set, &info).failed()) {
    if (info.si_code != format::kFreezeCode) strangers[count++] = info;
  }
  for (unsigned i = 0; i < count; ++i) sys::queue_to_thread(g_state.pid, slot->tid, strangers[i].si_signo, &strangers[i]).ignore();
}

// Signals that are pending for this very thread.
std::uint64_t own_pending(ThreadSlot* slot) {
  sys::FieldReader status("/proc/thread-self/status", slot->scratch);
  const char* pending = status.find("SigPnd");
  return pending == nullptr ? 0 : sys::parse_hex(&pending);
}

// Thread-directed pending signals are only visible by taking them out; they go back before the thread goes on.
void take_pending_signals(ThreadSlot* slot) {
  slot->pending_count = 0;
  if (sys::pending_signals() == 0) return;
  for (std::uint64_t own = 0; slot->pending_count < kMaxPending && (own = own_pending(slot)) != 0;) {
    if (slot->pending == nullptr) {
      const auto room = sys::map_aside(kMaxPending * sizeof(siginfo_t));
      if (room.failed()) return;
      slot->pending = reinterpret_cast<siginfo_t*>(room.value());
    }
    siginfo_t* info = &slot->pending[slot->pending_count];
    if (sys::take_pending(own, info).failed()) return;
    if (format::is_token(info->si_code)) continue;  // ours, late: of no use any more
    note_due(info, slot->scratch);
    if (!is_due_again(*info, {slot->pending, slot->pending_count})) ++slot->pending_count;
  }
}

// The restartable-sequences area of this thread, if libc registered one at the place that it makes public (rseq(2); weak: musl has
// none).
extern "C" [[gnu::weak]] const std::ptrdiff_t __rseq_offset;

void describe_rseq(format::ThreadRecord* record) {
  if (&__rseq_offset == nullptr) return;
  const std::uint64_t address = record->fs_base + static_cast<std::uint64_t>(__rseq_offset);
  const auto result = sys::call(334 /* rseq */, address, kRseqSize, 0, kRseqSignature);
  if (result.error() == sys::kEbusy) {  // as expected: this very registration exists
    record->rseq_address = address;
    record->rseq_size = kRseqSize;
    record->rseq_signature = kRseqSignature;
  } else if (!result.failed()) {
    sys::call(334, address, kRseqSize, 1 /* unregister */, kRseqSignature).ignore();
  }
}

}  // namespace

ThreadSlot* slot_for(int tid, unsigned* index) {
  static unsigned hint = 0;  // the order of /proc/self/task hardly changes
  const unsigned total = g_state.slot_chunks * kSlotsPerChunk;
  const unsigned start = total == 0 ? 0 : hint % total;
  unsigned free_index = total;
  for (unsigned step = 0; step < total; ++step) {
    const unsigned at = (start + step) % total;
    const ThreadSlot* slot = slot_at(at);
    if (slot->tid == tid) {
      hint = at + 1;
      *index = at;
      return slot_at(at);
    }
    const bool is_free = slot->tid == 0 || slot->generation + kForgetAfter < g_state.generation;  // its thread is long gone
    if (is_free && free_index == total) free_index = at;
    if (slot->tid == 0 && at < start) break;
    if (slot->tid == 0) step = total - start - 1;  // nobody has had those behind it: on with the first, or the end
  }
  if (free_index == total) {
    if (g_state.slot_chunks == kMaxChunks || tables() == nullptr) return nullptr;
    const auto room = sys::map_aside(sizeof(ThreadSlot) * kSlotsPerChunk);
    if (room.failed()) return nullptr;
    g_state.tables->chunks[g_state.slot_chunks++] = reinterpret_cast<ThreadSlot*>(room.value());
  }
  ThreadSlot* slot = slot_at(free_index);
  slot->tid = tid;
  hint = free_index + 1;
  *index = free_index;
  return slot;
}

static bool has_own_handler(int signal) {
  if (signal == format::kQuietSignal) return ckpt_actions[signal].handler > 1;
  return stolen_action(signal)->handler > 1;
}

// After a failed freeze: what still waits for a thread that did not stop must not be seen by the program. Ignoring a signal for a
// moment discards it wherever it is pending (sigaction(2)).
static void discard_stop_signals() {
  for (const int signal : kStopSignals) {
    if (has_own_handler(signal)) continue;  // one of the program's or of libc's may be among them
    sys::KernelAction current{};
    const sys::KernelAction ignore{1, 0, 0, 0};
    if (sys::set_action(signal, &ignore, &current).failed()) continue;
    sys::set_action(signal, &current, nullptr).ignore();
  }
}

static bool stop_all(int leader, std::int64_t timeout_ns, Message* message) {
  const std::int64_t begin = sys::clock_ns(CLOCK_MONOTONIC);
  while (__atomic_load_n(&g_state.inside, __ATOMIC_ACQUIRE) != 0)
    sys::call(__NR_sched_yield).ignore();  // the last freeze's threads
  g_state.generation = (g_state.generation + 1) & kGenerationMask;
  __atomic_store_n(&g_state.gate, g_state.generation * 2, __ATOMIC_RELEASE);
  __atomic_store_n(&ckpt_watch_handlers, 1, __ATOMIC_SEQ_CST);
  while (!is_alone()) {
    const std::uint32_t arrivals = __atomic_load_n(&g_state.arrivals, __ATOMIC_ACQUIRE);
    Walk walk;
    if (!walk_threads(leader, &walk, message)) return false;
    if (!walk.has_new && walk.standing == walk.found) break;
    if (sys::clock_ns(CLOCK_MONOTONIC) - begin > timeout_ns) {
      name_stubborn_thread(walk.waiting_for, message);
      return false;
    }
    if (walk.standing < walk.found) sys::futex_wait(&g_state.arrivals, arrivals, 2'000'000).ignore();
  }
  return true;
}

// Only when nobody is left who could send: each thread takes its own pending signals out. One that was sent to a thread that stood
// already would not be in the image otherwise.
static void drain_all() {
  std::uint32_t count = 0;
  for_each_frozen([](ThreadSlot*, void* argument) { ++*static_cast<std::uint32_t*>(argument); }, &count);
  if (count == 0) return;
  __atomic_store_n(&g_state.undrained, count, __ATOMIC_RELEASE);
  __atomic_store_n(&g_state.gate, g_state.generation * 2 + 1, __ATOMIC_RELEASE);
  sys::futex_wake(&g_state.gate);
  for (std::uint32_t left = 0; (left = __atomic_load_n(&g_state.undrained, __ATOMIC_ACQUIRE)) != 0;) {
    sys::futex_wait(&g_state.undrained, left, 10'000'000).ignore();
  }
}

bool freeze_others(Arena* arena, std::int64_t timeout_ns, Message* message) {
  bool is_frozen = false;
  run_aside(arena, [&, self = sys::gettid()] {
    g_state.read_signals = is_alone() ? 0 : signals_read_by_descriptors();
    is_frozen = stop_all(self, timeout_ns, message);
  });
  if (is_frozen) {
    drain_all();
  } else {
    discard_stop_signals();
  }
  return is_frozen;
}

// A stopped thread until the gate opens.
static void stand(ThreadSlot* slot, std::uint32_t generation) {
  bool is_drained = false;
  for (;;) {
    const std::uint32_t gate = __atomic_load_n(&g_state.gate, __ATOMIC_ACQUIRE);
    if (gate / 2 != generation) return;
    if (gate % 2 == 1 && !is_drained) {
      take_pending_signals(slot);
      is_drained = true;
      if (__atomic_sub_fetch(&g_state.undrained, 1, __ATOMIC_RELEASE) == 0) sys::futex_wake(&g_state.undrained);
    }
    sys::futex_wait(&g_state.gate, gate, -1).ignore();
  }
}

void thaw() {
  __atomic_store_n(&g_state.gate, 0, __ATOMIC_RELEASE);
  sys::futex_wake(&g_state.gate);
}

void describe_thread(ThreadSlot* slot, ::ucontext* context) {
  hide_interruption(context, slot);
  format::ThreadRecord* record = &slot->record;
  *record = {};
  record->tid = slot->tid;
  record->is_main = slot->tid == g_state.pid ? 1 : 0;
  record->context = reinterpret_cast<std::uint64_t>(context);
  record->blocked_signals = context->uc_sigmask;
  sys::call(__NR_arch_prctl, kArchGetFs, &record->fs_base).ignore();
  sys::call(__NR_arch_prctl, kArchGetGs, &record->gs_base).ignore();
  sys::call(__NR_prctl, kPrGetTidAddress, &record->clear_child_tid).ignore();
  sys::call(__NR_get_robust_list, 0, &record->robust_list, &record->robust_list_size).ignore();
  sys::call(__NR_prctl, kPrGetName, record->name).ignore();
  describe_rseq(record);
  describe_thread_state(&slot->details);
  slot->pending_count = 0;
}

void drain_leader(ThreadSlot* slot) { take_pending_signals(slot); }

void requeue_pending(ThreadSlot* slot) {
  for (unsigned i = 0; i < slot->pending_count; ++i) {
    const siginfo_t& info = slot->pending[i];
    if (!make_due(info)) sys::queue_to_thread(g_state.pid, slot->tid, info.si_signo, &info).ignore();
  }
  slot->pending_count = 0;
}

void park(unsigned slot_index, std::uint32_t generation, int signal, ::ucontext* context) {
  __atomic_fetch_add(&g_state.inside, 1, __ATOMIC_SEQ_CST);
  bool is_stopped = false;
  // A token of an earlier freeze, or a second one: there is nothing to stop for, but what it has interrupted must not show.
  if (__atomic_load_n(&g_state.gate, __ATOMIC_SEQ_CST) / 2 == generation && slot_index < g_state.slot_chunks * kSlotsPerChunk) {
    ThreadSlot* slot = slot_at(slot_index);
    if (slot->tid == sys::gettid() && __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == ThreadSlot::kSignalled) {
      slot->taken = static_cast<std::uint32_t>(signal);
      describe_thread(slot, context);
      slot->context = context;
      __atomic_store_n(&slot->state, ThreadSlot::kFrozen, __ATOMIC_RELEASE);
      __atomic_fetch_add(&g_state.arrivals, 1, __ATOMIC_RELEASE);
      sys::futex_wake(&g_state.arrivals);
      stand(slot, generation);
      requeue_pending(slot);
      swallow_leftovers(slot);  // now that nobody sends any more
      is_stopped = true;
    }
  }
  if (!is_stopped) hide_stray_interruption(context);
  __atomic_fetch_sub(&g_state.inside, 1, __ATOMIC_SEQ_CST);
}

void for_each_frozen(void (*visit)(ThreadSlot*, void*), void* argument) {
  const unsigned total = g_state.slot_chunks * kSlotsPerChunk;
  for (unsigned i = 0; i < total && slot_at(i)->tid != 0; ++i) {
    ThreadSlot* slot = slot_at(i);
    if (slot->generation == g_state.generation && slot->state == ThreadSlot::kFrozen) visit(slot, argument);
  }
}

}  // namespace ckpt
