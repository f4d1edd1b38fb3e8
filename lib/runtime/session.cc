// A sparse memory file: what is not touched costs nothing. Any context; nothing here waits without a limit.
#include "lib/runtime/session.h"

#include "lib/runtime/state.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

Session* map_session(int fd) {
  const auto mapped = sys::map(0, format::kSessionSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd);
  return mapped.failed() ? nullptr : reinterpret_cast<Session*>(mapped.value());
}

}  // namespace

Session* make_session(int* fd, int* error) {
  const auto made = sys::call(__NR_memfd_create, "ckpt-session", 1 /* MFD_CLOEXEC */);
  *error = made.error();
  if (made.failed()) return nullptr;
  sys::Fd file(made);
  *error = sys::call(__NR_ftruncate, file.get(), format::kSessionSize).error();
  if (*error != 0) return nullptr;
  *error = sys::kEnomem;
  Session* session = map_session(file.get());
  if (session == nullptr) return nullptr;
  memcpy(session->magic, format::kSessionMagic, sizeof(session->magic));
  session->version = format::kSessionVersion;
  session->size = sizeof(Session);
  session->leader = g_state.pid;
  session->phase = Phase::kFreeze;
  session->next_offset = format::kPageSize;
  *fd = file.release();
  return session;
}

Session* open_session(int leader, int fd) {
  sys::ProcPath path = sys::proc_path(leader, "fd/");
  path.add_signed(fd);
  const sys::Fd file(sys::open(path.c_str(), O_RDWR));
  std::uint64_t head[2]{};
  if (!file.is_open() || sys::pread_all(file.get(), head, sizeof(head), 0).failed()) return nullptr;
  const std::uint64_t version = static_cast<std::uint64_t>(sizeof(Session)) << 32 | format::kSessionVersion;
  if (memcmp(&head[0], format::kSessionMagic, sizeof(head[0])) != 0 || head[1] != version) return nullptr;
  return map_session(file.get());
}

void close_session(Session* session) {
  if (session != nullptr) sys::unmap(reinterpret_cast<std::uint64_t>(session), format::kSessionSize).ignore();
}

format::Member* own_member(Session* session) {
  for (std::uint32_t i = 0; i < session->member_count; ++i) {
    if (session->members[i].pid == g_state.pid && session->members[i].state == format::MemberState::kAsked)
      return &session->members[i];
  }
  return nullptr;
}

void signal_event(Session* session) {
  __atomic_fetch_add(&session->events, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&session->events, true);
}

void await_event(Session* session, std::uint32_t seen, std::int64_t timeout_ns) {
  sys::futex_wait(&session->events, seen, timeout_ns, true).ignore();
}

void enter_phase(Session* session, Phase phase) {
  __atomic_store_n(&session->phase, phase, __ATOMIC_RELEASE);
  sys::futex_wake(reinterpret_cast<std::uint32_t*>(&session->phase), true);
}

void arrive(Session* session, format::Member* member, Phase phase) {
  __atomic_store_n(&member->arrived, phase, __ATOMIC_RELEASE);
  signal_event(session);
}

void fail_session(Session* session, int code, const char* message) {
  // The reason stands before anybody is told of it. Who died with the lock is not waited for.
  constexpr int kTries = 10'000;
  for (int i = 0; i < kTries && __atomic_exchange_n(&session->lock, 1U, __ATOMIC_ACQUIRE) != 0; ++i) {
    sys::call(__NR_sched_yield).ignore();
  }
  if (__atomic_load_n(&session->has_failed, __ATOMIC_ACQUIRE) == 0) {
    session->code = code;
    sys::copy_text(session->message, sizeof(session->message), message);
    __atomic_store_n(&session->has_failed, 1U, __ATOMIC_RELEASE);
  }
  __atomic_store_n(&session->lock, 0U, __ATOMIC_RELEASE);
  signal_event(session);
}

}  // namespace ckpt
