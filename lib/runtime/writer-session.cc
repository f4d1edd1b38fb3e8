// One image by the writers of all processes of a job. The leader's opens the file, waits for the others' data, lets them append
// their parts of the index, and commits; the others write and end. Whoever fails says so in the session, and nothing is left.
#include "lib/runtime/members.h"
#include "lib/runtime/session.h"
#include "lib/runtime/writer.h"
#include "lib/sys/hash.h"

namespace ckpt {

namespace {

using format::Member;
using format::MemberState;
using format::WriterStep;

constexpr std::int64_t kLookAgainNs = 200'000'000;
constexpr std::int64_t kPatienceNs = 30'000'000'000;  // until a writer has come to life

bool has_failed(const Session* session) { return __atomic_load_n(&session->has_failed, __ATOMIC_ACQUIRE) != 0; }

void take_step(Session* session, Member* own, WriterStep step) {
  __atomic_store_n(&own->writer_step, step, __ATOMIC_RELEASE);
  signal_event(session);
}

bool is_writer_gone(const Member& member, std::int64_t awaited_since) {
  const int writer = __atomic_load_n(&member.writer, __ATOMIC_ACQUIRE);
  if (writer == 0) return sys::clock_ns(CLOCK_MONOTONIC) - awaited_since > kPatienceNs;
  return !is_process_alive(writer, start_time_of(writer));
}

// The leader's writer: until all have done it. False: somebody failed or was killed.
bool await_writers(Session* session, WriterStep step) {
  const std::int64_t begin = sys::clock_ns(CLOCK_MONOTONIC);
  for (std::int64_t last_look = begin;;) {
    const std::int64_t now = sys::clock_ns(CLOCK_MONOTONIC);
    const bool looks = now - last_look >= kLookAgainNs;  // who lives: not at every step of every writer
    if (looks) last_look = now;
    const std::uint32_t seen = __atomic_load_n(&session->events, __ATOMIC_ACQUIRE);
    bool is_done = true;
    for (std::uint32_t i = 1; i < session->member_count; ++i) {
      const Member& member = session->members[i];
      if (member.state != MemberState::kActive || __atomic_load_n(&member.writer_step, __ATOMIC_ACQUIRE) >= step) continue;
      is_done = false;
      const bool is_gone = looks && is_writer_gone(member, begin);
      if (is_gone && __atomic_load_n(&member.writer_step, __ATOMIC_ACQUIRE) < step)
        fail_session(session, kCodeFailed, "a writer was killed");
    }
    if (has_failed(session)) return false;
    if (is_done) return true;
    await_event(session, seen, kLookAgainNs);
  }
}

void raise_flag(std::uint32_t* flag) {
  __atomic_store_n(flag, 1U, __ATOMIC_RELEASE);
  sys::futex_wake(flag, true);
}

// A member's writer: until the leader's has done it, or is gone.
bool await_leader(Session* session, std::uint32_t* flag) {
  const std::int64_t begin = sys::clock_ns(CLOCK_MONOTONIC);
  for (;;) {
    if (has_failed(session)) return false;
    if (__atomic_load_n(flag, __ATOMIC_ACQUIRE) != 0) return true;
    if (is_writer_gone(session->members[0], begin)) {
      fail_session(session, kCodeFailed, "the writer of the leading process was killed");
      return false;
    }
    sys::futex_wait(flag, 0, kLookAgainNs, true).ignore();
  }
}

bool append_index(Collector* collector, Output* output, const std::uint8_t* data, std::size_t size) {
  const std::uint64_t at = __atomic_fetch_add(&collector->session->index_next, size, __ATOMIC_RELAXED);
  const auto result = sys::pwrite_all(output->fd, data, size, at);
  return !result.failed() || refuse_io(collector, "write", output->path, result.error());
}

bool write_part(Snapshot* snapshot, Member* own) {
  Collector* collector = snapshot->collector;
  Session* session = collector->session;
  Output output;
  if (!complete_areas(snapshot) || !prepare_output(collector, &output)) return false;
  if (!await_leader(session, &session->is_output_ready)) return false;
  const auto opened = sys::open(session->temporary, O_RDWR | O_NOFOLLOW);
  if (opened.failed()) return refuse_io(collector, "open", session->temporary, opened.error());
  const sys::Fd file(opened);
  output.fd = file.get();
  output.path = session->temporary;
  if (!write_data(collector, &output, session->is_contained != 0)) return false;
  take_step(session, own, WriterStep::kDataWritten);
  if (!await_leader(session, &session->may_index)) return false;
  if (!append_index(collector, &output, collector->index.data(), collector->index.size())) return false;
  take_step(session, own, WriterStep::kIndexWritten);
  return true;
}

// The index has come together in the file; its hash is that of what is there.
bool hash_index(Collector* collector, const Output& output, std::uint64_t begin, std::uint64_t end, format::Hash128* hash) {
  const auto room = sys::map(0, format::kMaxFrameSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) return refuse_io(collector, "read back", output.path, sys::kEnomem);
  auto* buffer = reinterpret_cast<std::uint8_t*>(room.value());
  sys::Hasher hasher;
  for (std::uint64_t at = begin; at < end;) {
    const std::uint64_t size = end - at < format::kMaxFrameSize ? end - at : format::kMaxFrameSize;
    const auto count = sys::pread_all(output.fd, buffer, size, at);
    if (count.failed() || static_cast<std::uint64_t>(count.value()) != size)
      return refuse_io(collector, "read back", output.path, sys::kEio);
    hasher.add(buffer, size);
    at += size;
  }
  *hash = hasher.finish();
  return true;
}

std::uint32_t count_active(const Session* session) {
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < session->member_count; ++i) count += session->members[i].state == MemberState::kActive ? 1 : 0;
  return count;
}

// The job's record first, then the processes' parts as they come, the frames last.
bool write_whole_index(Snapshot* snapshot, Output* output, const Place& place) {
  Collector* collector = snapshot->collector;
  Session* session = collector->session;
  job_record(*collector)->generation = place.generation;
  job_record(*collector)->process_count = count_active(session);
  const std::uint64_t begin = format::align_up(session->next_offset, format::kPageSize);
  session->index_next = begin;
  if (!append_index(collector, output, collector->index.data(), collector->index.size())) return false;
  raise_flag(&session->may_index);
  if (!await_writers(session, WriterStep::kIndexWritten)) return false;
  const format::RecordHeader header{static_cast<std::uint16_t>(format::RecordType::kFrames), 1,
                                    static_cast<std::uint32_t>(*output->frame_count * sizeof(format::Frame))};
  if (!append_index(collector, output, reinterpret_cast<const std::uint8_t*>(&header), sizeof(header))) return false;
  if (!append_index(collector, output, reinterpret_cast<const std::uint8_t*>(output->frames), header.length)) return false;
  const std::uint64_t end = session->index_next;
  format::Hash128 hash{};
  if (end - begin > 0xffffffffU) return refuse_io(collector, "write the index of", output->path, sys::kEfbig);
  return hash_index(collector, *output, begin, end, &hash) && finish_image(snapshot, output, place, begin, end - begin, hash);
}

bool write_whole(Snapshot* snapshot) {
  Collector* collector = snapshot->collector;
  Session* session = collector->session;
  Place place;
  Output output;
  if (!complete_areas(snapshot) || !choose_place(collector, &place) || !prepare_output(collector, &output)) return false;
  const sys::Fd file(open_temporary(collector, place));  // its room is free again before a failure is told
  output.fd = file.get();
  output.path = place.final_path.c_str();
  if (output.fd < 0) return false;
  session->is_contained = is_contained(place) ? 1 : 0;
  sys::copy_text(session->temporary, sizeof(session->temporary), place.temporary.c_str());
  raise_flag(&session->is_output_ready);
  if (write_data(collector, &output, session->is_contained != 0) && await_writers(session, WriterStep::kDataWritten) &&
      write_whole_index(snapshot, &output, place) && commit(collector, place, output.fd)) {
    note_result(*snapshot, place);
    return true;
  }
  discard(place);
  return false;
}

}  // namespace

namespace {

// While some processes still stand, the machine is theirs.
void await_go(Session* session) {
  while (session->phase == format::Phase::kSnapshot) {
    const auto result = sys::futex_wait(reinterpret_cast<std::uint32_t*>(&session->phase),
                                        static_cast<std::uint32_t>(format::Phase::kSnapshot), kLookAgainNs, true);
    if (result.error() == sys::kEtimedout && !is_process_alive(session->leader, start_time_of(session->leader))) return;
  }
}

}  // namespace

void write_with_others(Snapshot* snapshot) {
  Collector* collector = snapshot->collector;
  Session* session = collector->session;
  Member* own = &session->members[collector->member];
  __atomic_store_n(&own->writer, sys::getpid(), __ATOMIC_RELEASE);
  await_go(session);
  const bool is_leader = collector->member == 0;
  const bool is_written = is_leader ? write_whole(snapshot) : write_part(snapshot, own);
  if (!is_written) fail_session(session, collector->code, collector->message->c_str());
  if (is_leader && is_written) enter_stage(format::Stage::kCommitted);
  const bool must_stand = __atomic_load_n(&g_state.control->must_stand_for_flags, __ATOMIC_ACQUIRE) != 0;
  if (is_leader && !is_written) discard_clones(collector->clone_folder);
  if (is_leader && !is_written && must_stand && !collector->must_stand_for_flags) ask_again(snapshot->lock_fd);
  if (is_leader && !is_written) fail_request(session->code != 0 ? session->code : kCodeFailed, 0, session->message);
  if (is_leader) sys::close(snapshot->lock_fd);
  for (;;) sys::call(__NR_exit_group, 0).ignore();
}

}  // namespace ckpt
