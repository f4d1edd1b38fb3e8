// Threads: made with their old numbers, each takes up its own kernel state, then all leave together through the program's
// libckpt.so.
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>

#include "restart/engine/engine.h"
#include "restart/engine/number-round.h"

namespace ckpt::engine {

namespace {

using format::ThreadRecord;
using format::ThreadStateRecord;

constexpr int kArchSetGs = 0x1001;
constexpr int kArchSetFs = 0x1002;
constexpr int kRseq = 334;

constexpr int kPatience = 2;
constexpr std::uint64_t kMaxTries = 3ULL << 22;  // rounds, of the most numbers that there can be

struct Thread {
  Engine* engine;
  const ThreadRecord* record;
  const ThreadStateRecord* state;  // nullptr: an image without
};

// `tid` is the calling thread's old number, or 0: what is pending for the process, which only the main thread may queue as it was.
void queue_pending(const Engine& engine, std::int32_t tid) {
  const auto* pending = list<format::PendingSignalRecord>(engine, engine.hand->pending);
  const int pid = sys::getpid();
  for (std::uint64_t i = 0; i < engine.hand->pending.count; ++i) {
    const auto* info = reinterpret_cast<const siginfo_t*>(pending[i].info);
    if (pending[i].tid != tid || format::due_timer(info) != nullptr) continue;  // the timer goes off again: timers.cc
    const auto result = tid == 0 ? sys::call(__NR_rt_sigqueueinfo, pid, info->si_signo, info)
                                 : sys::queue_to_thread(pid, sys::gettid(), info->si_signo, info);
    if (result.failed()) die(engine, "cannot queue a pending signal", result.error());
  }
}

void set_thread_state(const Engine& engine, const ThreadRecord& record) {
  // Pending signals wait until the frame restores the mask: everything is blocked here.
  sys::call(__NR_prctl, PR_SET_NAME, record.name).ignore();
  sys::call(__NR_set_tid_address, record.clear_child_tid).ignore();
  if (record.robust_list_size != 0) sys::call(__NR_set_robust_list, record.robust_list, record.robust_list_size).ignore();
  if (record.rseq_size != 0) {
    const auto result = sys::call(kRseq, record.rseq_address, record.rseq_size, 0, record.rseq_signature);
    if (result.failed()) die(engine, "cannot register restartable sequences", result.error());
  }
  queue_pending(engine, record.tid);
}

[[noreturn]] void leave(const Engine& engine, const ThreadRecord& record) {
  const format::RuntimeRecord& runtime = engine.hand->runtime;
  const std::uint64_t begin = engine.hole.begin;
  const std::uint64_t size = engine.hole.end - begin;
  sys::call(__NR_arch_prctl, kArchSetGs, record.gs_base).ignore();
  sys::call(__NR_arch_prctl, kArchSetFs, record.fs_base).ignore();
  engine_leave(record.context, runtime.resume_counter, begin, size, runtime.resume_entry);
}

// A new number is as good as another, but that it must not be one that somebody else of the job is to get.
bool is_number_for(const Engine& engine, std::int32_t old, std::int32_t number) {
  return find_new_number(engine, old) != nullptr ? !is_number_of_job(engine, number) : number == old;
}

void run_thread(void* argument) {
  const auto* thread = static_cast<const Thread*>(argument);
  Engine* engine = thread->engine;
  const ThreadRecord& record = *thread->record;
  if (!is_number_for(*engine, record.tid, sys::gettid())) sys::call(__NR_exit, 0).ignore();  // see go_round()
  set_thread_state(*engine, record);
  settle_thread(*engine, thread->state);
  __atomic_fetch_add(&engine->ready, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&engine->ready);
  take_table(engine, record.tid);
  while (__atomic_load_n(&engine->go, __ATOMIC_ACQUIRE) == 0) sys::futex_wait(&engine->go, 0, -1).ignore();
  // The memory that all stand in goes with the last one to leave, so the main thread must have gone where it does not leave.
  while (__atomic_load_n(&engine->main_ends, __ATOMIC_ACQUIRE) != 0) {
    sys::futex_wait(&engine->main_ends, 1, 1'000'000, true).ignore();  // the kernel wakes one only
  }
  leave(*engine, record);
}

void end_at_once(void*) { sys::call(__NR_exit, 0).ignore(); }

// Uses a number of the system up; the number.
long use_up_number(clone_args arguments) {
  arguments.flags = CLONE_VM | CLONE_VFORK;
  arguments.set_tid_size = arguments.set_tid = 0;
  const long pid = engine_clone(&arguments, sizeof(arguments), end_at_once, nullptr);
  if (pid > 0) sys::call(__NR_wait4, pid, nullptr, 0x40000000 /* __WALL */, nullptr).ignore();
  return pid;
}

// See restart/numbers.cc: other processes of the job, or another restart, may be going round as well.
sys::Fd lock_numbers() {
  constexpr int kExclusive = 2 | 4;  // LOCK_EX | LOCK_NB
  constexpr int kTries = 3000;
  sys::Fd fd(sys::open("/proc/sys/kernel/pid_max", O_RDONLY));
  const __kernel_timespec pause{0, 10'000'000};
  for (int i = 0; i < kTries && sys::call(__NR_flock, fd.get(), kExclusive).error() == sys::kEagain; ++i) {
    sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  }
  return fd;
}

bool is_number_taken(std::int32_t number) { return sys::call(__NR_kill, number, 0).error() != sys::kEsrch; }

// Not for the moment only.
bool is_kept_by_somebody(std::int32_t number) {
  constexpr int kLooks = 20;
  const __kernel_timespec pause{0, 50'000'000};
  for (int i = 0; i < kLooks && is_number_taken(number); ++i) sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  return is_number_taken(number);
}

long read_pid_max(const sys::Fd& file) {
  char text[24] = {};
  sys::pread(file.get(), text, sizeof(text) - 1, 0).ignore();
  const char* at = text;
  return static_cast<long>(sys::parse_decimal(&at));
}

// Where numbers may not be chosen: the kernel gives them out in order, so the right one will be next some time. A thread with a
// wrong one ends at once.
long go_round(clone_args arguments, Thread* thread) {
  const sys::Fd lock = lock_numbers();
  static long last = 0;  // number that was given out; threads were made one after the other, as a rule
  std::uint32_t is_there = 0;
  const std::int32_t wanted = thread->record->tid;
  const long pid_max = read_pid_max(lock);
  long begin = begin_of_real_tries(wanted, pid_max, is_number_taken);
  int kept = 0;  // rounds in which somebody had it for long
  for (std::uint64_t i = 0; i < kMaxTries; ++i) {
    const long before = last;
    while (is_in_round(begin, last, wanted)) {
      clone_args real = arguments;
      real.set_tid_size = real.set_tid = 0;
      real.flags |= CLONE_CHILD_CLEARTID;
      real.child_tid = reinterpret_cast<std::uint64_t>(&is_there);
      is_there = 1;
      last = engine_clone(&real, sizeof(real), run_thread, thread);
      if (last == wanted || last < 0) return last;
      while (__atomic_load_n(&is_there, __ATOMIC_ACQUIRE) != 0) sys::futex_wait(&is_there, 1, 1'000'000, true).ignore();
    }
    last = use_up_number(arguments);
    if (last < 0) return last;
    if (!is_in_round(before + 1, wanted, last)) continue;
    if (is_kept_by_somebody(wanted) && ++kept == kPatience) break;
    begin = begin_of_real_tries(wanted, pid_max, is_number_taken);
  }
  return -sys::kEagain;
}

// Its old number is somebody else's.
void start_with_new_number(Engine* engine, clone_args arguments, Thread* thread, format::NumberPair* number) {
  arguments.set_tid_size = arguments.set_tid = 0;
  std::uint32_t is_there = 1;
  arguments.flags |= CLONE_CHILD_CLEARTID;
  arguments.child_tid = reinterpret_cast<std::uint64_t>(&is_there);
  for (;;) {
    const long tid = engine_clone(&arguments, sizeof(arguments), run_thread, thread);
    if (tid < 0) die(*engine, "cannot create a thread", static_cast<int>(-tid));
    number->real = static_cast<std::int32_t>(tid);
    if (is_number_for(*engine, number->shown, number->real)) return;
    while (__atomic_load_n(&is_there, __ATOMIC_ACQUIRE) != 0) sys::futex_wait(&is_there, 1, 1'000'000, true).ignore();
    is_there = 1;
  }
}

void start_thread(Engine* engine, const ThreadRecord& record, const ThreadStateRecord* state, std::uint64_t stack) {
  // The bottom of its stack holds what it needs to know.
  auto* thread = reinterpret_cast<Thread*>(stack);
  *thread = {engine, &record, state};
  std::int32_t tid = record.tid;
  clone_args arguments{};
  arguments.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  arguments.stack = stack + 64;
  arguments.stack_size = kThreadStackSize - 64;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&tid);
  arguments.set_tid_size = 1;
  if (format::NumberPair* number = find_new_number(*engine, tid); number != nullptr)
    return start_with_new_number(engine, arguments, thread, number);
  for (int attempt = 0;; ++attempt) {
    long result = engine_clone(&arguments, sizeof(arguments), run_thread, thread);
    if (result == -sys::kEperm) result = go_round(arguments, thread);
    if (result >= 0) return;
    // A thread that read pages may have had this number, and its end is not through yet.
    if (result != -sys::kEexist || attempt > 1000)
      die_at(*engine, "cannot create a thread with its old number", static_cast<std::uint64_t>(tid), static_cast<int>(-result));
    const __kernel_timespec pause{0, 1'000'000};
    sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  }
}

}  // namespace

// The main thread had ended, and does so again: the process keeps its number.
[[noreturn]] static void end_main_thread(Engine* engine) {
  sys::call(__NR_prctl, PR_SET_NAME, engine->hand->name).ignore();
  sys::call(__NR_set_tid_address, &engine->main_ends).ignore();
  __atomic_store_n(&engine->go, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&engine->go);
  for (;;) sys::call(__NR_exit, 0).ignore();
}

// Until ckpt-restart has heard from all processes of the job, and lets them go. The byte is for all of them: nobody takes it. If
// ckpt-restart is dead before it is there, nobody goes.
static void await_others(const Engine& engine) {
  pollfd gate{engine.hand->gate_fd, POLLIN, 0};
  while ((gate.revents & (POLLIN | POLLHUP)) == 0) sys::call(__NR_ppoll, &gate, 1, nullptr, nullptr, 0).ignore();
  while ((gate.revents & POLLIN) == 0) sys::call(__NR_exit_group, 125).ignore();
  sys::close(gate.fd);
}

void start_threads(Engine* engine) {
  const auto* records = list<ThreadRecord>(*engine, engine->hand->threads);
  const std::uint64_t count = engine->hand->threads.count;
  *reinterpret_cast<std::uint32_t*>(engine->hand->runtime.resume_counter) = static_cast<std::uint32_t>(count);
  ++*reinterpret_cast<std::uint64_t*>(engine->hand->runtime.restarts);
  const auto* states = list<ThreadStateRecord>(*engine, engine->hand->states);
  const bool has_states = engine->hand->states.count == count;
  const bool has_main = records[0].is_main != 0;
  const std::uint64_t first = has_main ? 1 : 0;
  engine->main_ends = has_main ? 0 : 1;
  for (std::uint64_t i = first; i < count; ++i) {
    start_thread(engine, records[i], has_states ? &states[i] : nullptr, engine->thread_stacks + i * kThreadStackSize);
  }
  for (std::uint32_t ready = 0; (ready = __atomic_load_n(&engine->ready, __ATOMIC_ACQUIRE)) < count - first;) {
    sys::futex_wait(&engine->ready, ready, -1).ignore();
  }
  publish_numbers(*engine);
  create_timers(engine);  // some are for a thread
  open_late_files(*engine);
  set_owners_and_locks(*engine);
  share_out_tables(engine);
  set_own_locks(*engine);
  queue_pending(*engine, 0);
  if (has_main) set_thread_state(*engine, records[0]);
  arm_timers(*engine);
  settle_thread(*engine, has_states && has_main ? &states[0] : nullptr);
  // A change of ids takes it away.
  sys::call(__NR_prctl, PR_SET_DUMPABLE, engine->hand->dumpable == 1 ? 1 : 0).ignore();
  sys::write_all(engine->hand->report_fd, "", 1).ignore();
  sys::close(engine->hand->report_fd);
  await_others(*engine);
  if (engine->hand->is_stopped != 0) sys::call(__NR_kill, sys::getpid(), SIGSTOP).ignore();
  if (!has_main) end_main_thread(engine);
  __atomic_store_n(&engine->go, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&engine->go);
  leave(*engine, records[0]);
}

}  // namespace ckpt::engine
