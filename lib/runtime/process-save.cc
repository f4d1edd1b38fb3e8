// Freeze → collect → snapshot → go on, in one process. In the handler of the thread that took the door signal.
//
// Everything up to the snapshot is undone on failure: nothing of the program has been changed but for signals taken out to be seen,
// which go back, and the program goes on as if nothing had been asked.
#include "lib/runtime/process-save.h"

#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>

#include <new>

#include "lib/resources/process/record.h"
#include "lib/resources/signals/record.h"
#include "lib/resources/threads/collect.h"
#include "lib/resources/timers/collect-due.h"
#include "lib/runtime/control.h"
#include "lib/runtime/entry-points.h"
#include "lib/runtime/freeze.h"
#include "lib/runtime/interruption.h"
#include "lib/runtime/numbers.h"
#include "lib/runtime/session.h"
#include "lib/runtime/translated-call.h"

namespace ckpt {

namespace {

constexpr std::size_t kArenaSize = 256U << 20;  // address space; what is not touched costs nothing
constexpr std::size_t kLeastArena = 8U << 20;
constexpr std::size_t kStackSize = 256U << 10;
constexpr std::int64_t kDefaultTimeoutNs = 10'000'000'000;

// The resource kinds, in the order in which they are asked. `threads` comes last, with the leader's own tables.
bool collect_threads(Collector* collector);
constexpr struct {
  const char* name;
  bool (*collect)(Collector*);
} kKinds[] = {
    {"process", collect_process},       {"children", collect_children},
    {"memory", collect_memory},         {"signals", collect_signals},
    {"saved", collect_saved},           {"files", collect_files},
    {"timers", collect_timers},         {"shared memory", collect_memory_objects},
    {"System V objects", collect_sysv}, {"threads", collect_threads},
};

void add_thread(ThreadSlot* slot, void* argument) {
  auto* collector = static_cast<Collector*>(argument);
  auto* record = collector->add_record<format::ThreadRecord>(format::RecordType::kThread);
  if (record != nullptr) *record = slot->record;
  add_thread_state(collector, slot->details);
  for (unsigned i = 0; i < slot->pending_count; ++i) {
    auto* pending = collector->add_record<format::PendingSignalRecord>(format::RecordType::kPendingSignal);
    if (pending == nullptr) return;
    write_pending(pending, slot->tid, slot->pending[i]);
  }
}

bool collect_threads(Collector* collector) {
  for_each_frozen(add_thread, collector);
  if (collector->code != 0) return false;
  auto* runtime = collector->add_record<format::RuntimeRecord>(format::RecordType::kRuntime);
  if (runtime == nullptr) return true;
  runtime->resume_entry = reinterpret_cast<std::uint64_t>(ckpt_resume);
  runtime->resume_counter = reinterpret_cast<std::uint64_t>(&g_state.resume_counter);
  runtime->control_page = reinterpret_cast<std::uint64_t>(g_state.control);
  runtime->restarts = reinterpret_cast<std::uint64_t>(&g_state.restarts);
  return true;
}

// For those who ask before `threads`: the numbers.
void list_threads(Collector* collector) {
  unsigned count = 0;
  for_each_frozen([](ThreadSlot*, void* argument) { ++*static_cast<unsigned*>(argument); }, &count);
  collector->threads = collector->arena->take_array<int>(count);
  if (collector->threads == nullptr) return;
  const auto add = [](ThreadSlot* slot, void* argument) {
    auto* all = static_cast<Collector*>(argument);
    all->threads[all->thread_count++] = slot->tid;
  };
  for_each_frozen(add, collector);
}

void add_job(Collector* collector) {
  auto* job = collector->add_record<format::JobRecord>(format::RecordType::kJob);
  if (job == nullptr) return;
  job->settings = g_state.control->settings;
  job->process_count = 1;
}

// All other records have the kernel's numbers; those of the program are put in their place when the image is read.
void add_numbers(Collector* collector) {
  for (std::uint32_t i = 0; ckpt_numbers != nullptr && i < ckpt_numbers->count; ++i) {
    auto* pair = collector->add_record<format::NumberPair>(format::RecordType::kNumber);
    if (pair != nullptr) *pair = reinterpret_cast<const format::NumberPair*>(ckpt_numbers + 1)[i];
  }
}

void requeue_process_signals(const Collector& collector) {
  for (unsigned i = 0; i < collector.process_signal_count; ++i) {
    const siginfo_t* info = &collector.process_signals[i];
    if (make_due(*info)) continue;
    if (sys::call(__NR_rt_sigqueueinfo, g_state.pid, info->si_signo, info).failed()) {
      sys::call(__NR_kill, g_state.pid, info->si_signo)
          .ignore();  // EPERM from a thread other than the main one: without its siginfo
    }
  }
}

// Own slot: the leader stands as well as everybody else.
ThreadSlot* describe_caller(const Caller& caller) {
  unsigned index = 0;
  const int tid = sys::gettid();
  ThreadSlot* slot = slot_for(tid, &index);
  if (slot == nullptr) return nullptr;
  slot->before = {};
  if (caller.door.tid == tid) slot->before = caller.door;
  slot->tries = 0;
  slot->sent = 0;
  describe_thread(slot, caller.context);
  drain_leader(slot);
  slot->generation = g_state.generation;
  slot->state = ThreadSlot::kFrozen;
  return slot;
}

void count_thread(ThreadSlot*, void* argument) { ++*static_cast<std::uint32_t*>(argument); }

struct Errand {
  Collector* collector;
  bool (*function)(Collector*, void*);
  void* argument;
  bool has_succeeded;
};

int do_errand(void* argument) {
  auto* errand = static_cast<Errand*>(argument);
  errand->has_succeeded = errand->function(errand->collector, errand->argument);
  return 0;
}

bool run_apart(Collector* collector, bool (*function)(Collector*, void*), void* argument) {
  if (collector->errand_stack == nullptr) collector->errand_stack = collector->arena->take(kStackSize);
  auto* stack = static_cast<char*>(collector->errand_stack);
  Errand errand{collector, function, argument, false};
  const long child = stack == nullptr ? -1 : ckpt_clone_on(CLONE_VM | CLONE_VFORK, stack + kStackSize, do_errand, &errand);
  if (child > 0) sys::call(__NR_wait4, child, nullptr, __WCLONE, nullptr).ignore();
  return errand.has_succeeded;
}

struct Work {
  Caller* caller;
  void (*function)(Caller*, void*);
  void* argument;
};

void do_work(void* argument) {
  auto* work = static_cast<Work*>(argument);
  work->function(work->caller, work->argument);
}

// Beside the images of the job; an image in a file of its own (-o) has nothing beside it.
const char* choose_clone_folder(Arena* arena) {
  const auto* control = g_state.control;
  const bool is_single_file = control->request.file[0] != '\0' || control->settings.file[0] != '\0';
  if (is_single_file || (control->request.flags & format::kCheckOnly) != 0) return "";
  auto* folder = arena->take_array<sys::Text<format::kPathBytes>>(1);
  if (folder == nullptr) return "";
  *folder = {};
  folder->add(control->settings.directory).add_char('/').add(control->settings.job_name).add("/.new.files");
  return folder->is_cut() ? "" : folder->c_str();
}

}  // namespace

namespace {

struct Limit {
  std::uint64_t soft, hard;
};

void raise_limits(SoftLimits* limits) {
  *limits = {};
  for (unsigned i = 0; i < 2; ++i) {
    Limit limit{};
    if (sys::call(__NR_prlimit64, 0, SoftLimits::kResources[i], nullptr, &limit).failed() || limit.soft == limit.hard) continue;
    limits->soft[i] = limit.soft;
    limit.soft = limit.hard;
    limits->is_raised[i] = !sys::call(__NR_prlimit64, 0, SoftLimits::kResources[i], &limit, nullptr).failed();
  }
}

void lower_limits(const SoftLimits& limits) {
  for (unsigned i = 0; i < 2; ++i) {
    Limit limit{};
    if (!limits.is_raised[i] || sys::call(__NR_prlimit64, 0, SoftLimits::kResources[i], nullptr, &limit).failed()) continue;
    limit.soft = limits.soft[i];
    sys::call(__NR_prlimit64, 0, SoftLimits::kResources[i], &limit, nullptr).ignore();
  }
}

}  // namespace

Scratch run_in_scratch(Caller* caller, void (*work)(Caller*, void*), void* argument) {
  std::uint32_t is_busy = 0;
  if (!__atomic_compare_exchange_n(&g_state.is_busy, &is_busy, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return Scratch::kBusy;
  raise_limits(&caller->limits);
  Arena arena;
  const bool has_room = arena.reserve(kArenaSize, kLeastArena);
  if (has_room) {
    auto* stack = static_cast<char*>(arena.take(kStackSize));
    caller->arena = &arena;
    Work all{caller, work, argument};
    ckpt_call_on(stack + kStackSize, do_work, &all);
    arena.release();
  }
  lower_limits(caller->limits);
  __atomic_store_n(&g_state.is_busy, 0, __ATOMIC_RELEASE);
  return has_room ? Scratch::kUsed : Scratch::kNone;
}

Dumpable::Dumpable() : before_(sys::call(__NR_prctl, PR_GET_DUMPABLE).value()) {
  if (before_ == 0) sys::call(__NR_prctl, PR_SET_DUMPABLE, 1).ignore();
}

Dumpable::~Dumpable() {
  if (before_ == 0) sys::call(__NR_prctl, PR_SET_DUMPABLE, 0).ignore();
}

ProcessSave::ProcessSave(const Caller& caller) : caller_(caller) {
  Arena* arena = caller.arena;
  auto* collector = arena->take_array<Collector>(1);
  auto* message = arena->take_array<Message>(1);
  snapshot_ = arena->take_array<Snapshot>(1);
  const std::size_t index_size = arena->left() / 2;
  void* index = arena->take(index_size);
  if (collector == nullptr || snapshot_ == nullptr || message == nullptr || index == nullptr) return;
  new (collector) Collector;  // what has no value of its own is zero: the arena is fresh
  collector->pid = g_state.pid;
  collector->limits = &caller_.limits;
  collector->control_path = g_state.control_path;
  collector->clone_folder = choose_clone_folder(arena);
  collector->may_be_helped = g_state.control != nullptr && (g_state.control->request.flags & format::kMayHelp) != 0;
  collector->saved_paths = g_state.control->settings.saved_paths;
  collector->launch_filters = g_state.control->seccomp_filters;
  if (g_state.tables != nullptr) collector->notifications = g_state.tables->notifications;
  collector->own_ipc_namespace = g_state.control->ipc_namespace;
  collector->translation = ckpt_translation;
  collector->launch_namespaces = g_state.control->namespaces;
  collector->scratch = {arena->begin(), arena->end()};
  collector->arena = arena;
  collector->must_stand_for_flags = __atomic_load_n(&g_state.control->must_stand_for_flags, __ATOMIC_ACQUIRE) != 0;
  collector->index = Buffer(index, index_size);
  collector->message = new (message) Message;
  collector->apart = run_apart;
  collector->dumpable = dumpable_.before();
  collector_ = collector;
  *snapshot_ = {collector, sys::clock_ns(CLOCK_MONOTONIC), sys::clock_ns(CLOCK_REALTIME), 0, -1, {-1, -1, 0}};
}

ProcessSave::~ProcessSave() {
  if (own_ != nullptr) go_on();
  if (own_ == nullptr) hide_stray_interruption(caller_.context);
  if (collector_ == nullptr) return;
  close_session(collector_->session);
  if (collector_->session_fd >= 0) sys::close(collector_->session_fd);
  free_copies(collector_);
}

bool ProcessSave::freeze() {
  if (freeze_others(caller_.arena, timeout_ns(), collector_->message)) own_ = describe_caller(caller_);
  if (own_ == nullptr) thaw();
  return own_ != nullptr;
}

void ProcessSave::go_on() {
  if (has_gone_on_) return;
  has_gone_on_ = true;
  requeue_process_signals(*collector_);
  thaw();
  requeue_pending(own_);
}

void ProcessSave::hold_if_asked() {
  if ((g_state.control->request.flags & format::kHoldUntilCommitted) != 0) hold_until_committed(collector_->session);
}

std::int64_t timeout_ns() {
  const std::uint32_t given = g_state.control->request.timeout_ms;
  return given == 0 ? kDefaultTimeoutNs : given * 1'000'000LL;
}

bool collect_all(Collector* collector) {
  if (collector->member == 0) add_job(collector);
  list_threads(collector);
  bool is_collected = collector->threads != nullptr;
  if (!is_collected) collector->refuse(kCodeFailed).add("its threads can't be listed: no memory");
  for (const auto& kind : kKinds) is_collected = is_collected && kind.collect(collector);
  close_taken(collector);
  if (!is_collected) return false;
  add_numbers(collector);
  if (!collector->index.is_full()) return true;
  collector->refuse(kCodeFailed).add("its description does not fit into the scratch memory (see RLIMIT_AS)");
  return false;
}

bool fork_writer(Collector* collector, Snapshot* snapshot) {
  for_each_frozen(count_thread, &snapshot->thread_count);
  if (collector->session != nullptr) collector->session->members[collector->member].thread_count = snapshot->thread_count;
  void* stub_stack = collector->arena->take(kStackSize);
  hide_segments_from_fork(*collector, true);
  const int error = stub_stack == nullptr ? sys::kEnomem : take_snapshot(snapshot, static_cast<char*>(stub_stack) + kStackSize);
  hide_segments_from_fork(*collector, false);
  if (error == 0) return true;
  if (error == sys::kEacces) {
    collector->refuse(kCodeFailed).add("it may not open ").add_quoted(collector->control_path);
    collector->message->add(
        ", and ckpt-trigger could not open an image for it: run that with CAP_SYS_PTRACE, and room in the store");
    return false;
  }
  if (error == sys::kEbusy) {
    collector->refuse().add("the writer of the last checkpoint has not ended yet");
    return collector->postpone();
  }
  collector->refuse(kCodeFailed).add("cannot fork the writer: ").add(sys::error_text(error));
  return false;
}

}  // namespace ckpt
