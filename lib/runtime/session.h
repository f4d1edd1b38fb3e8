// The shared memory of a checkpoint of several processes (lib/format/session.h), as leader, member and writer use it.
#pragma once

#include "lib/format/session.h"
#include "lib/resources/collector.h"

namespace ckpt {

using format::Phase;
using format::Session;

// Leader: makes it; *fd is what members open. nullptr: *error says why.
Session* make_session(int* fd, int* error);
// Member: maps the leader's; nullptr: it is not there, or of another version.
Session* open_session(int leader, int fd);
void close_session(Session* session);

// This process's place in it; nullptr: the leader did not ask us.
format::Member* own_member(Session* session);
inline std::uint32_t index_of(const Session* session, const format::Member* member) {
  return static_cast<std::uint32_t>(member - session->members);
}

// Leader: lets everybody do the next thing.
void enter_phase(Session* session, Phase phase);
// Member: has done what the phase asked for.
void arrive(Session* session, format::Member* member, Phase phase);
// Anybody: something happened that somebody may wait for.
void signal_event(Session* session);
// Waits until an event after `seen`, at most `timeout_ns`.
void await_event(Session* session, std::uint32_t seen, std::int64_t timeout_ns);

// The first failure is the one that counts.
void fail_session(Session* session, int code, const char* message);

inline format::Frame* frames_of(Session* session) {
  return reinterpret_cast<format::Frame*>(reinterpret_cast<char*>(session) + format::kFramesAt);
}

}  // namespace ckpt
