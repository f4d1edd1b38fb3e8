// The request and its outcome on the control page (lib/format/control.h), as the runtime moves them.
#include "lib/runtime/checkpoint.h"
#include "lib/runtime/control.h"

namespace ckpt {

namespace {

// A bare `kill -USR2`: nobody filled in the request, and nobody waits.
bool claim_bare_request() {
  format::ControlPage* control = g_state.control;
  std::uint32_t stage = __atomic_load_n(&control->stage, __ATOMIC_ACQUIRE);
  const auto is_at_rest = [](std::uint32_t value) {
    return value == static_cast<std::uint32_t>(format::Stage::kIdle) ||
           value == static_cast<std::uint32_t>(format::Stage::kCommitted) ||
           value == static_cast<std::uint32_t>(format::Stage::kFailed);
  };
  if (!is_at_rest(stage) && (stage != static_cast<std::uint32_t>(format::Stage::kWriting) || is_writer_alive())) return false;
  if (!__atomic_compare_exchange_n(&control->stage, &stage, static_cast<std::uint32_t>(format::Stage::kFreezing), false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    return false;
  }
  control->request = {};
  return true;
}

void kill_members(const format::Session& session) {
  for (std::uint32_t i = 1; i < session.member_count; ++i) {
    const format::Member& member = session.members[i];
    if (member.state == format::MemberState::kActive) sys::call(__NR_kill, member.pid, SIGKILL).ignore();
  }
}

}  // namespace

bool claim_request(std::uint32_t id) {
  if (id == kBareSignal) return claim_bare_request();
  auto expected = static_cast<std::uint32_t>(format::Stage::kRequested);
  return g_state.control->request.id == id &&
         __atomic_compare_exchange_n(&g_state.control->stage, &expected, static_cast<std::uint32_t>(format::Stage::kFreezing),
                                     false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

// ckpt-trigger --kill: nobody goes on until the image is durable, and then nobody does.
void hold_until_committed(const format::Session* session) {
  auto* stage = &g_state.control->stage;
  for (;;) {
    const std::uint32_t now = __atomic_load_n(stage, __ATOMIC_ACQUIRE);
    if (now == static_cast<std::uint32_t>(format::Stage::kCommitted)) {
      if (session != nullptr && session->leader == g_state.pid) kill_members(*session);
      sys::call(__NR_kill, g_state.pid, SIGKILL).ignore();
      return;
    }
    if (session != nullptr && __atomic_load_n(&session->has_failed, __ATOMIC_ACQUIRE) != 0) return;
    if (now == static_cast<std::uint32_t>(format::Stage::kFailed) || now == static_cast<std::uint32_t>(format::Stage::kRequested) ||
        now == static_cast<std::uint32_t>(format::Stage::kIdle)) {
      return;
    }
    if (sys::futex_wait(stage, now, 200'000'000, true).error() == sys::kEtimedout && !is_writer_alive()) {
      if (__atomic_load_n(stage, __ATOMIC_ACQUIRE) == now) fail_request(kCodeFailed, 0, "the writer was killed");
    }
  }
}

void enter_stage(format::Stage stage) {
  __atomic_store_n(&g_state.control->stage, static_cast<std::uint32_t>(stage), __ATOMIC_RELEASE);
  sys::futex_wake(&g_state.control->stage, true);
}

void fail_request(int code, int error, const char* message) {
  auto* result = &g_state.control->result;
  result->code = code;
  result->error = error;
  sys::copy_text(result->message, sizeof(result->message), message);
  enter_stage(format::Stage::kFailed);
}

}  // namespace ckpt
