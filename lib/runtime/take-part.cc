// A member of a job: another process of it leads, and has knocked at our door.
#include <cstdint>

#include "lib/runtime/aside.h"
#include "lib/runtime/checkpoint.h"
#include "lib/runtime/control.h"
#include "lib/runtime/interruption.h"
#include "lib/runtime/members.h"
#include "lib/runtime/orphans.h"
#include "lib/runtime/process-save.h"
#include "lib/runtime/session.h"

namespace ckpt {

namespace {

struct Knock {
  int leader;
  int session_fd;
};

// A member waits for what the leader does next; kCancel if the leader is gone.
Phase await_phase(Session* session, Phase after, std::uint64_t leader_start) {
  for (;;) {
    const Phase now = __atomic_load_n(&session->phase, __ATOMIC_ACQUIRE);
    if (now != after) return now;
    const auto result =
        sys::futex_wait(reinterpret_cast<std::uint32_t*>(&session->phase), static_cast<std::uint32_t>(after), 200'000'000, true);
    if (result.error() == sys::kEtimedout && !is_process_alive(session->leader, leader_start)) return Phase::kCancel;
  }
}

bool do_phase(Collector* collector, Snapshot* snapshot, Phase phase) {
  switch (phase) {
    case Phase::kList:
      return publish_descriptors(collector);
    case Phase::kCollect:
      return collect_all(collector);
    case Phase::kSnapshot:
      return fork_writer(collector, snapshot);
    default:
      return true;
  }
}

// In step with the leader until it says go. True: there will be an image.
bool follow_leader(Collector* collector, Snapshot* snapshot, std::uint64_t leader_start) {
  Session* session = collector->session;
  format::Member* own = &session->members[collector->member];
  OrphansElsewhere orphans;
  for (Phase phase = Phase::kFreeze;;) {
    arrive(session, own, phase);
    phase = await_phase(session, phase, leader_start);
    if (phase == Phase::kGo || phase == Phase::kCancel) return phase == Phase::kGo;
    if (!do_phase(collector, snapshot, phase)) fail_session(session, collector->code, collector->message->c_str());
    if (phase == Phase::kCollect) orphans.begin();
  }
}

// Freeze to thaw.
void take_part(const Caller& caller, Session* session, format::Member* own) {
  ProcessSave process(caller);
  if (!process.has_room()) {
    fail_session(session, kCodeFailed, "no room for the checkpoint (see RLIMIT_AS)");
    return close_session(session);
  }
  Collector* collector = process.collector();
  collector->session = session;
  collector->member = index_of(session, own);
  collector->is_stopped = own->is_stopped != 0;
  if (!process.freeze()) return fail_session(session, kCodeFailed, collector->message->c_str());
  const std::uint64_t told = session->members[0].start_time;  // not by an older runtime
  const std::uint64_t leader_start = told != 0 ? told : start_time_of(session->leader);
  own->state = format::MemberState::kActive;
  if (follow_leader(collector, process.snapshot(), leader_start)) process.hold_if_asked();
}

void follow(Caller* caller, void* argument) {
  const Knock& knock = *static_cast<Knock*>(argument);
  if (g_state.control == nullptr) open_control();
  Session* session = nullptr;
  run_aside(caller->arena, [&] {
    notice_restart();
    if (g_state.control != nullptr) session = open_session(knock.leader, knock.session_fd);
  });
  format::Member* own = session == nullptr ? nullptr : own_member(session);
  if (own == nullptr) {  // late: the leader gave up
    close_session(session);
    return hide_stray_interruption(caller->context);
  }
  caller->door = own->door;
  const bool is_stopped = own->is_stopped != 0;
  take_part(*caller, session, own);
  if (is_stopped) sys::call(__NR_kill, g_state.pid, SIGSTOP).ignore();
}

}  // namespace

void run_member(::ucontext* context, int leader, int session_fd) {
  Caller caller{context, nullptr, {}, {}};
  Knock knock{leader, session_fd};
  if (run_in_scratch(&caller, follow, &knock) != Scratch::kUsed) hide_stray_interruption(context);
}

}  // namespace ckpt
