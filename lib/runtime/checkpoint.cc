// The leader: the thread that took the trigger's door signal. It saves its own process and, if there are others, leads them.
#include "lib/runtime/checkpoint.h"

#include "lib/runtime/aside.h"
#include "lib/runtime/control.h"
#include "lib/runtime/dispatchers.h"
#include "lib/runtime/interruption.h"
#include "lib/runtime/members.h"
#include "lib/runtime/orphans.h"
#include "lib/runtime/process-save.h"
#include "lib/runtime/session.h"

namespace ckpt {

namespace {

bool is_check_only() { return (g_state.control->request.flags & format::kCheckOnly) != 0; }

// The leader's part of a phase is done: waits for the others. False: one has failed, or did not come in time.
bool await_members(Collector* collector, std::int64_t limit_ns) {
  Session* session = collector->session;
  const std::int64_t begin = sys::clock_ns(CLOCK_MONOTONIC);
  for (;;) {
    const std::uint32_t seen = __atomic_load_n(&session->events, __ATOMIC_ACQUIRE);
    int awaited = 0;
    if (__atomic_load_n(&session->has_failed, __ATOMIC_ACQUIRE) != 0) return false;
    if (count_awaited(session, collector->session_fd, &awaited) == 0) return true;
    if (sys::clock_ns(CLOCK_MONOTONIC) - begin > limit_ns) {
      Message message;
      message.add("process ").add_signed(awaited).add(" of the job did not stop in time");
      say_what_keeps(&message, awaited);
      fail_session(session, kCodeFailed, message.c_str());
      return false;
    }
    await_event(session, seen, 20'000'000);
  }
}

bool run_phase(Collector* collector, Phase phase, bool (*work)(Collector*)) {
  Session* session = collector->session;
  enter_phase(session, phase);
  const bool is_done = work(collector);
  if (!is_done) fail_session(session, collector->code, collector->message->c_str());
  session->members[0].arrived = phase;
  return await_members(collector, timeout_ns()) && is_done;
}

// All processes of the job in step. False: the reason is in the session.
bool save_with_others(Collector* collector, Snapshot* snapshot) {
  if (!run_phase(collector, Phase::kList, publish_descriptors) || !run_phase(collector, Phase::kCollect, collect_all)) return false;
  if (is_check_only()) return true;
  OrphansElsewhere orphans;
  orphans.begin();
  enter_phase(collector->session, Phase::kSnapshot);
  if (!fork_writer(collector, snapshot)) {
    fail_session(collector->session, collector->code, collector->message->c_str());
    return false;
  }
  collector->session->members[0].arrived = Phase::kSnapshot;
  return await_members(collector, timeout_ns());
}

// Collects and forks; everybody stands. False: the request has failed.
bool save_frozen(Collector* collector, Snapshot* snapshot) {
  enter_stage(format::Stage::kCollecting);
  discard_clones(collector->clone_folder);  // of a writer that was killed
  Session* session = collector->session;
  if (session != nullptr) {
    const bool is_saved = save_with_others(collector, snapshot);
    if (!is_saved && g_state.control->stage != static_cast<std::uint32_t>(format::Stage::kWriting)) {
      fail_request(session->code, 0, session->message);  // else the leader's writer says it
    }
    enter_phase(session, is_saved && !is_check_only() ? Phase::kGo : Phase::kCancel);
    return is_saved;
  }
  if (collect_all(collector) && (is_check_only() || fork_writer(collector, snapshot))) return true;
  fail_request(collector->code, 0, collector->message->c_str());
  return false;
}

// Stops the rest of the job, if there is any, until nothing new appears. False: `message` says why not.
bool gather_job(Collector* collector, Known* seen) {
  // We stand: where there is nobody else now, there will be nobody.
  if (!seen->has_living_member()) {
    JobLook alone;
    if (!look_at_job(nullptr, -1, seen, &alone, collector->message) || alone.is_refused) return false;
    if (alone.members == 0 && alone.coming == 0) return true;
  }
  int error = 0;
  Session* session = make_session(&collector->session_fd, &error);
  if (session == nullptr) {
    collector->message->add("process ").add_signed(g_state.pid).add(": a memory file (memfd_create) to stop the other processes");
    collector->message->add(" of the job with can't be made: ").add(sys::error_text(error));
    return false;
  }
  collector->session = session;
  session->members[0] = {};
  session->members[0].pid = g_state.pid;
  session->members[0].start_time = start_time_of(g_state.pid);
  session->members[0].state = format::MemberState::kActive;
  session->members[0].arrived = Phase::kFreeze;
  session->member_count = 1;
  const std::int64_t begin = sys::clock_ns(CLOCK_MONOTONIC);
  for (unsigned busy = 0;;) {
    const std::uint64_t before = last_pid();
    const std::uint32_t known = session->member_count;
    JobLook look;
    if (!look_at_job(session, collector->session_fd, seen, &look, collector->message) || look.is_refused) return false;
    if (!await_members(collector, timeout_ns())) {
      collector->message->clear();
      collector->message->add(session->message);
      return false;
    }
    const bool is_quiet = known == session->member_count && look.coming == 0;
    if (is_quiet && (before == last_pid() || ++busy > 8)) return true;
    if (sys::clock_ns(CLOCK_MONOTONIC) - begin > timeout_ns()) {
      if (look.coming_pid != 0) {
        say_out_of_control(collector->message, look.coming_pid);
      } else {
        collector->message->add("the processes of the job do not come to rest: they go on starting others");
      }
      return false;
    }
    if (look.coming != 0) sys::futex_wait(&session->events, session->events, 2'000'000, true).ignore();
  }
}

// Before anybody is disturbed. False: `message` says why the job can't be saved.
bool is_possible(Known* seen, Message* message) {
  const std::int32_t dispatcher = find_dispatcher();
  if (dispatcher == 0) return look_before(seen, message);
  message->add("process ").add_signed(g_state.pid).add(": thread ").add_signed(dispatcher);
  message->add(" has its system calls sent to itself (PR_SET_SYSCALL_USER_DISPATCH); switch that off and try again");
  return false;
}

// Freeze to thaw. True: all is done, and no writer will say so.
bool save(const Caller& caller) {
  auto* result = &g_state.control->result;
  ProcessSave process(caller);
  if (!process.has_room()) {
    fail_request(kCodeFailed, sys::kEnomem, "no room for the checkpoint (see RLIMIT_AS)");
    return false;
  }
  Collector* collector = process.collector();
  collector->is_stopped = (g_state.control->request.flags & format::kIsStopped) != 0;
  Snapshot* snapshot = process.snapshot();
  Known seen(caller.arena->take(Known::kBytes));
  bool may_begin = false;
  run_aside(caller.arena, [&] { may_begin = is_possible(&seen, collector->message); });
  snapshot->begin_ns = sys::clock_ns(CLOCK_MONOTONIC);
  if (!may_begin || !process.freeze()) {
    fail_request(kCodeFailed, 0, collector->message->c_str());
    return false;
  }
  const bool is_gathered = gather_job(collector, &seen);
  result->freeze_ns = static_cast<std::uint64_t>(sys::clock_ns(CLOCK_MONOTONIC) - snapshot->begin_ns);
  if (!is_gathered) fail_request(kCodeUnsupported, 0, collector->message->c_str());
  if (!is_gathered && collector->session != nullptr) {
    enter_phase(collector->session, Phase::kCancel);
    stop_latecomers(*collector->session);
  }
  const bool is_saved = is_gathered && save_frozen(collector, snapshot);
  const bool is_check = is_check_only();
  if (!is_saved) discard_clones(collector->clone_folder);
  if (is_saved && !is_check) process.hold_if_asked();
  process.go_on();
  result->stall_ns = static_cast<std::uint64_t>(sys::clock_ns(CLOCK_MONOTONIC) - snapshot->begin_ns);
  return is_saved && is_check;
}

void lead(Caller* caller, void* argument) {
  const std::uint32_t request_id = *static_cast<std::uint32_t*>(argument);
  run_aside(caller->arena, notice_restart);
  if (g_state.control == nullptr) open_control();
  if (g_state.control == nullptr) return complain("no control page can be made: see CKPT_DIR and HOME");
  if (!claim_request(request_id)) return hide_stray_interruption(caller->context);  // a second knock at the door
  const bool is_stopped = (g_state.control->request.flags & format::kIsStopped) != 0;
  g_state.control->result = {};
  g_state.control->progress_done = g_state.control->progress_total = 0;
  if (save(*caller)) enter_stage(format::Stage::kCommitted);
  const bool has_failed =
      __atomic_load_n(&g_state.control->stage, __ATOMIC_ACQUIRE) == static_cast<std::uint32_t>(format::Stage::kFailed);
  if (request_id == kBareSignal && has_failed) complain(g_state.control->result.message);
  if (is_stopped) sys::call(__NR_kill, g_state.pid, SIGSTOP).ignore();
}

}  // namespace

void run_checkpoint(::ucontext* context, std::uint32_t request_id) {
  Caller caller{context, nullptr, {}, {}};
  if (g_state.control != nullptr && request_id != kBareSignal) caller.door = g_state.control->request.door;
  const Scratch scratch = run_in_scratch(&caller, lead, &request_id);
  if (scratch == Scratch::kUsed) return;
  hide_stray_interruption(context);
  if (scratch == Scratch::kNone && g_state.control != nullptr && claim_request(request_id)) {
    fail_request(kCodeFailed, sys::kEnomem,
                 "no address space for the checkpoint (see RLIMIT_AS, and RLIMIT_MEMLOCK if all memory is locked)");
  }
}

}  // namespace ckpt
