// What a socket has received and nobody has read: walked by SO_PEEK_OFF, which takes nothing out.
#include <asm/ioctls.h>
#include <linux/poll.h>

#include "lib/resources/sockets/collect.h"

namespace ckpt {

namespace {

using format::QueuedMessage;
using format::SocketState;

constexpr int kPeekOffset = 42;       // SO_PEEK_OFF
constexpr int kPassCredentials = 16;  // SO_PASSCRED
constexpr int kPeek = 0x2, kTruncate = 0x20, kDontWait = 0x40, kCloseOnExec = 0x40000000;

struct Vector {
  void* base;
  std::size_t size;
};

struct MessageHeader {  // struct msghdr
  void* name;
  std::uint32_t name_size;
  Vector* vectors;
  std::size_t vector_count;
  void* control;
  std::size_t control_size;
  int flags;
};

// Memory that grows, so that a queue of unknown size fits.
struct Room {
  std::uint8_t* data = nullptr;
  std::size_t capacity = 0;
  std::size_t used = 0;

  bool reserve(std::size_t more) {
    if (used + more <= capacity) return true;
    const std::size_t wanted = format::align_up((used + more) * 2, format::kPageSize);
    const auto moved = data == nullptr ? sys::map(0, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
                                       : sys::call(__NR_mremap, data, capacity, wanted, 1 /* MREMAP_MAYMOVE */);
    if (moved.failed()) return false;
    data = reinterpret_cast<std::uint8_t*>(moved.value());
    capacity = wanted;
    return true;
  }
  void release() {
    if (data != nullptr) sys::unmap(reinterpret_cast<std::uint64_t>(data), capacity).ignore();
    data = nullptr;
  }
};

enum class Step { kMore, kEnd, kFailed };

struct ControlHeader {  // struct cmsghdr
  std::size_t size;
  int level;
  int type;
};
constexpr int kRights = 1;              // SCM_RIGHTS
constexpr int kCredentials = 2;         // SCM_CREDENTIALS
constexpr unsigned kMostRights = 253;   // the kernel's limit for one message
constexpr int kControlTruncated = 0x8;  // MSG_CTRUNC

// The walk through one queue.
struct Walk {
  Collector* collector;
  Listing* listing;
  const OpenDescription* end;
  int fd;
  bool is_stream;
  bool has_rights;   // descriptors are in flight somewhere in it
  bool has_end;      // packets: the end looks like an empty message, but has no credentials
  bool has_senders;  // SO_PASSCRED
  int offset;        // bytes that have been passed
  Room room;
};

// One message as it was looked at: its data stand at `room.used`, behind room for header, name and rights.
struct Peeked {
  std::size_t size;
  std::uint32_t name_size;
  std::size_t control_size;
  alignas(8) std::uint8_t control[sizeof(ControlHeader) * 4 + kMostRights * sizeof(int) + 128];
};

constexpr std::size_t kNameRoom = 128;
constexpr std::size_t kHeadRoom = sizeof(QueuedMessage) + kNameRoom + (kMostRights + 1) * sizeof(int);

bool set_peek_offset(int fd, int offset) {
  return !sys::call(__NR_setsockopt, fd, kSolSocket, kPeekOffset, &offset, sizeof(offset)).failed();
}

std::uint8_t* head_of(const Walk& walk) { return walk.room.data + walk.room.used; }

// Looks at up to `size` bytes of the next message. Each look at a message with descriptors makes them ours once more.
Step peek(Walk* walk, std::size_t size, Peeked* peeked) {
  if (!walk->room.reserve(kHeadRoom + size + 8)) return Step::kFailed;
  Vector vector{head_of(*walk) + kHeadRoom, size};
  const bool has_control = walk->has_rights || walk->has_end || walk->has_senders;
  MessageHeader header{head_of(*walk) + sizeof(QueuedMessage),    kNameRoom, &vector, 1, peeked->control,
                       has_control ? sizeof(peeked->control) : 0, 0};
  const auto count =
      sys::call(__NR_recvmsg, walk->fd, &header, kPeek | kDontWait | kCloseOnExec | (walk->is_stream ? 0 : kTruncate));
  if (count.failed() || (walk->is_stream && count.value() == 0)) return Step::kEnd;
  peeked->size = static_cast<std::size_t>(count.value());
  peeked->name_size = walk->is_stream ? 0 : header.name_size;
  peeked->control_size = has_control ? header.control_size : 0;
  if (walk->has_end && peeked->size == 0 && peeked->control_size == 0) return Step::kEnd;
  return has_control && (header.flags & kControlTruncated) != 0 ? Step::kFailed : Step::kMore;
}

// Numbers that came with a message.
std::span<const int> control_of(const Peeked& peeked, int type) {
  for (std::size_t at = 0; at + sizeof(ControlHeader) <= peeked.control_size;) {
    ControlHeader header;
    memcpy(&header, peeked.control + at, sizeof(header));
    if (header.size < sizeof(header)) break;
    if (header.level == kSolSocket && header.type == type) {
      return {reinterpret_cast<const int*>(peeked.control + at + sizeof(header)), (header.size - sizeof(header)) / sizeof(int)};
    }
    at += format::align_up(header.size, 8);
  }
  return {};
}

std::span<const int> rights_of(const Peeked& peeked) { return control_of(peeked, kRights); }

// 0: it came without.
std::int32_t sender_of(const Peeked& peeked) {
  const auto credentials = control_of(peeked, kCredentials);
  return credentials.empty() ? 0 : credentials[0];
}

void close_rights(const Peeked& peeked) {
  for (const int fd : rights_of(peeked)) sys::close(fd);
}

// In a stream, a look ends behind the piece that has descriptors, but does not tell where that begins, and a shorter one shows them
// all the same. A piece is copied whole or not at all: one that does not fit before an unmapped page ends the look in front of it.
std::size_t bytes_before_rights(const Walk& walk, std::size_t size) {
  const std::size_t room = format::align_up(size, format::kPageSize);
  const auto mapped = sys::map(0, room + format::kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (mapped.failed()) return 0;
  const auto begin = static_cast<std::uint64_t>(mapped.value());
  Vector vector{reinterpret_cast<void*>(begin + room - (size - 1)), size};
  MessageHeader header{nullptr, 0, &vector, 1, nullptr, 0, 0};
  sys::SysResult count(0);
  if (!sys::protect(begin + room, format::kPageSize, PROT_NONE).failed() && set_peek_offset(walk.fd, walk.offset)) {
    count = sys::call(__NR_recvmsg, walk.fd, &header, kPeek | kDontWait);
  }
  sys::unmap(begin, room + format::kPageSize).ignore();
  return count.failed() ? 0 : static_cast<std::size_t>(count.value());
}

// Looks at the next message or piece whole. One that is larger than the room is asked for once more: its start is known. An empty
// one shows itself once only.
Step peek_whole(Walk* walk, Peeked* peeked) {
  std::size_t size = 256U << 10;
  Step step = peek(walk, size, peeked);
  if (step == Step::kMore && peeked->size > size) {
    size = peeked->size;
    close_rights(*peeked);
    step = set_peek_offset(walk->fd, walk->offset) ? peek(walk, size, peeked) : Step::kFailed;
  }
  if (step != Step::kMore || !walk->is_stream || rights_of(*peeked).empty()) return step;
  const std::size_t whole = peeked->size;
  close_rights(*peeked);
  const std::size_t before = bytes_before_rights(*walk, whole);
  if (!set_peek_offset(walk->fd, walk->offset)) return Step::kFailed;
  if (before == 0) return peek(walk, whole, peeked);
  const Step first = peek(walk, before, peeked);
  close_rights(*peeked);  // of the next piece
  peeked->control_size = 0;
  return first == Step::kMore && !set_peek_offset(walk->fd, walk->offset + static_cast<int>(before)) ? Step::kFailed : first;
}

// Descriptors become the ids of their descriptions.
bool keep_rights(Walk* walk, const Peeked& peeked, std::uint32_t* ids) {
  const auto rights = rights_of(peeked);
  for (std::size_t i = 0; i < rights.size(); ++i) {
    const auto* record = describe_in_flight(walk->collector, walk->listing, rights[i], walk->fd);
    ids[i] = record == nullptr ? 0 : record->id;
    if (record != nullptr) continue;
    for (std::size_t k = i + 1; k < rights.size(); ++k) sys::close(rights[k]);
    return false;
  }
  return true;
}

// Copies one message behind the others: header, name, rights, data.
Step keep_message(Walk* walk) {
  Peeked peeked;
  const Step step = peek_whole(walk, &peeked);
  if (step != Step::kMore) return step;
  std::uint32_t ids[kMostRights + 1]{};
  if (!keep_rights(walk, peeked, ids)) return Step::kFailed;
  const auto right_count = static_cast<std::uint32_t>(rights_of(peeked).size());
  const QueuedMessage message{static_cast<std::uint32_t>(peeked.size), peeked.name_size, right_count,
                              walk->has_senders ? sender_of(peeked) : 0};
  std::uint8_t* at = head_of(*walk);
  memcpy(at, &message, sizeof(message));
  at += sizeof(message);
  const std::size_t name_room = format::align_up(message.name_size, 8);
  const std::size_t right_room = format::align_up(right_count * sizeof(ids[0]), 8);
  const std::size_t data_room = format::align_up(message.size, 8);
  memset(at + message.name_size, 0, name_room - message.name_size);
  memcpy(at + name_room, ids, right_room);
  memmove(at + name_room + right_room, head_of(*walk) + kHeadRoom, message.size);
  memset(at + name_room + right_room + message.size, 0, data_room - message.size);
  walk->room.used += sizeof(message) + name_room + right_room + data_room;
  walk->offset += static_cast<int>(message.size);
  return Step::kMore;
}

// Bytes of a TCP connection that wait to be read, an end counted as one: TCP_INQ, which goes on where FIONREAD stops at a mark.
// Something must be there: to look where nothing is would take a pending error out.
int count_beyond_mark(int fd) {
  constexpr int kTcpLevel = 6, kInq = 36;  // SOL_TCP, TCP_INQ
  const int on = 1;
  const int before = socket_option(fd, kTcpLevel, kInq, 0);
  if (sys::call(__NR_setsockopt, fd, kTcpLevel, kInq, &on, sizeof(on)).failed()) return 0;
  std::uint8_t byte;
  struct {
    ControlHeader header;
    int count;
    int unused[13];
  } control{};
  Vector vector{&byte, 1};
  MessageHeader header{nullptr, 0, &vector, 1, &control, sizeof(control), 0};
  const auto got = sys::call(__NR_recvmsg, fd, &header, kPeek | kDontWait);
  sys::call(__NR_setsockopt, fd, kTcpLevel, kInq, &before, sizeof(before)).ignore();
  return !got.failed() && control.header.level == kTcpLevel && control.header.type == kInq ? control.count : 0;
}

// Behind the mark of urgent data that has been read out of its turn is more, which no look in turn shows.
bool hides_data_behind_mark(int fd) {
  int unread = 0;
  constexpr unsigned kIsAtMark = 0x8905;  // SIOCATMARK
  int is_at_mark = 0;
  if (sys::call(__NR_ioctl, fd, FIONREAD, &unread).failed()) return false;
  if (unread > 0) return count_beyond_mark(fd) > unread + 1;
  return !sys::call(__NR_ioctl, fd, kIsAtMark, &is_at_mark).failed() && is_at_mark != 0 && (poll_now(fd, POLLIN) & POLLIN) != 0;
}

bool keep_messages(Walk* walk) {
  Step step = Step::kMore;
  if (walk->is_stream) {
    // Never look behind the end: that would take a pending error out (the reset of a connection).
    int unread = 0;
    if (sys::call(__NR_ioctl, walk->fd, FIONREAD, &unread).failed()) return false;
    while (step == Step::kMore && walk->offset < unread) step = keep_message(walk);
    return walk->offset == unread;
  }
  const int on = 1;
  const int before = socket_option(walk->fd, kSolSocket, kPassCredentials, 0);
  if (walk->has_end) sys::call(__NR_setsockopt, walk->fd, kSolSocket, kPassCredentials, &on, sizeof(on)).ignore();
  while (step == Step::kMore) step = keep_message(walk);
  if (walk->has_end) sys::call(__NR_setsockopt, walk->fd, kSolSocket, kPassCredentials, &before, sizeof(before)).ignore();
  return step == Step::kEnd;
}

bool has_rights_in_flight(int fd) {
  std::uint64_t descriptors = 0;
  char text[4096];
  return read_fdinfo(fd, text) && find_field(text, "scm_fds:", 10, &descriptors) && descriptors != 0;
}

// What is looked at in flight is closed again, and with it a file's locks of the process would go (fcntl(2)).
bool has_file_locks(const Listing& listing) {
  char text[4096];
  std::uint64_t ignored = 0;
  for (unsigned i = 0; i < listing.count; ++i) {
    const bool is_file = listing.known[i].record->kind == format::DescriptionKind::kRegular;
    if (is_file && read_fdinfo(listing.known[i].fd, text) && find_field(text, "lock:", 10, &ignored)) return true;
  }
  return false;
}

// The walk's bytes become a kept content.
std::uint32_t keep_room(Walk* walk) {
  std::uint8_t* kept = add_piece(walk->collector, 0, walk->room.used);
  if (kept == nullptr) return 0;
  memcpy(kept, walk->room.data, walk->room.used);
  return add_content(walk->collector, walk->end->facts, walk->room.used, walk->collector->piece_count - 1);
}

}  // namespace

bool keep_queue(Collector* collector, const OpenDescription& end, Listing* listing) {
  const SocketState& state = *socket_state(end);
  if (state.type != kStream && (state.flags & SocketState::kHasError) != 0) {
    int unread = 0;  // to look further would take the error out
    if (!sys::call(__NR_ioctl, end.fd, FIONREAD, &unread).failed() && unread == 0) return true;
    return refuse_socket(collector, end.fd, state, "an error that waits behind data can't be saved; try again later") ||
           collector->postpone();
  }
  if (state.type == kStream && state.family != kAfUnix && hides_data_behind_mark(end.fd))
    return refuse_socket(collector, end.fd, state, "data behind the mark of urgent data can't be saved; try again later") ||
           collector->postpone();
  const bool has_end = state.type == kSeqpacket && (state.shutdown & SocketState::kShutReceive) != 0;
  const bool has_rights = listing != nullptr && has_rights_in_flight(end.fd);
  if (has_rights && has_file_locks(*listing))
    return refuse_socket(collector, end.fd, state, "a descriptor in flight (SCM_RIGHTS) can't be saved while file locks are held");
  const bool has_senders = state.family == kAfUnix && socket_option(end.fd, kSolSocket, kPassCredentials, 0) != 0;
  Walk walk{collector, listing, &end, end.fd, state.type == kStream, has_rights, has_end, has_senders, 0, {}};
  const int before = socket_option(end.fd, kSolSocket, kPeekOffset, -1);
  if (!set_peek_offset(end.fd, 0))
    return refuse_socket(collector, end.fd, state, "what is in it can't be read without taking it out");
  const bool is_whole = keep_messages(&walk);
  set_peek_offset(end.fd, before);
  const bool is_empty = is_whole && walk.room.used == 0;
  if (is_whole && !is_empty) end.record->content = keep_room(&walk);
  walk.room.release();
  if (is_empty || end.record->content != 0) return true;
  if (collector->code != 0) return false;  // a descriptor in flight
  return refuse_socket(collector, end.fd, state, "what is in it can't be copied: no memory, or no descriptor is left");
}

}  // namespace ckpt
