// Pipes: the ends that one process holds, and what is between them, read without taking it out (tee(2)).
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/fcntl.h>

#include "lib/resources/files/collect.h"

namespace ckpt {

namespace {

using format::DescriptionKind;
using format::DescriptionRecord;

constexpr int kGetPipeSize = 1032, kSetPipeSize = 1031;  // F_GETPIPE_SZ, F_SETPIPE_SZ

struct PollEntry {
  int fd;
  short events;
  short returned;
};

// No end of it is left elsewhere: the other one is ours, or closed.
bool is_within(const Collector& collector, const OpenDescription* known, unsigned count, const OpenDescription& end) {
  const int direction = static_cast<int>(end.record->status_flags & O_ACCMODE);
  if (direction == O_RDWR) return true;
  const auto is_other_end = [&](const OpenDescription& other) {
    return other.facts.inode == end.facts.inode && other.facts.device == end.facts.device &&
           other.record->kind != DescriptionKind::kPathOnly &&
           static_cast<int>(other.record->status_flags & O_ACCMODE) != direction;
  };
  const auto own = static_cast<unsigned>(&end - known);
  for (unsigned step = 1; step < count; ++step) {  // as a rule it is the next one
    if (own + step < count && is_other_end(known[own + step])) return true;
    if (step <= own && is_other_end(known[own - step])) return true;
  }
  if (has_other_end(collector, end.facts, direction)) return true;
  PollEntry entry{end.fd, 0, 0};
  const __kernel_timespec at_once{};
  sys::call(__NR_ppoll, &entry, 1, &at_once, nullptr, 8).ignore();
  return (entry.returned & (POLLHUP | POLLERR)) != 0;
}

// Copies `size` bytes out of the pipe behind `reader`, which keeps them: each read is a piece, for in packet mode it is a packet.
bool copy_content(Collector* collector, int reader, std::size_t size, std::uint64_t capacity) {
  int scratch[2];
  if (sys::call(__NR_pipe2, scratch, O_CLOEXEC | O_NONBLOCK).failed()) return false;
  const sys::Fd scratch_out(scratch[0]);
  const sys::Fd scratch_in(scratch[1]);
  // As many slots as the pipe itself has: a short write may use up a whole one.
  sys::call(__NR_fcntl, scratch_in.get(), kSetPipeSize, capacity).ignore();
  const auto copied = sys::call(__NR_tee, reader, scratch_in.get(), size, 2 /* SPLICE_F_NONBLOCK */);
  if (copied.failed() || static_cast<std::size_t>(copied.value()) != size) return false;
  for (std::size_t done = 0; done < size;) {
    std::uint8_t* data = add_piece(collector, done, size - done);
    const auto count = data == nullptr ? sys::SysResult(-sys::kEnomem) : sys::read(scratch_out.get(), data, size - done);
    if (count.failed() || count.value() == 0) return false;
    shorten_piece(collector, static_cast<std::uint64_t>(count.value()));
    done += static_cast<std::size_t>(count.value());
  }
  return true;
}

bool refuse_pipe(Collector* collector, const OpenDescription& end, const char* reason) {
  const char* path = reinterpret_cast<const char*>(end.record + 1);
  collector->refuse().add("descriptor ").add_signed(end.fd).add(" (").add(path).add("): ").add(reason);
  return false;
}

// A descriptor of ours that reads from the pipe; -1: none. A named one is not opened once more: somebody may be waiting for a
// reader.
int find_reader(const OpenDescription& end, const OpenDescription* known, unsigned count) {
  if ((end.record->status_flags & O_ACCMODE) != O_WRONLY) return end.fd;
  for (unsigned i = 0; i < count; ++i) {
    const OpenDescription& other = known[i];
    if (other.facts.inode != end.facts.inode || other.facts.device != end.facts.device) continue;
    if ((other.record->status_flags & (O_ACCMODE | O_PATH)) != O_WRONLY && other.record->kind != DescriptionKind::kPathOnly)
      return other.fd;
  }
  return -1;
}

// What is in the pipe becomes a kept content; 0 in *content when it is empty.
bool keep_pipe(Collector* collector, const OpenDescription& end, int from, std::uint64_t capacity, std::uint32_t* content) {
  *content = 0;
  const sys::ProcPath path = sys::descriptor_path(end.fd);
  if (!claim_file(collector, end.facts.device, end.facts.inode)) return true;
  const sys::Fd again(from >= 0 ? -1 : sys::Fd(sys::open(path.c_str(), O_RDONLY | O_NONBLOCK)).release());
  const int reader = from >= 0 ? from : again.get();
  const int size = reader >= 0 ? unread_bytes(reader) : 0;
  if (size == 0) return true;
  const unsigned first = collector->piece_count;
  if (!copy_content(collector, reader, static_cast<std::size_t>(size), capacity)) {
    return refuse_pipe(collector, end, "what is in this pipe can't be copied");
  }
  *content = add_content(collector, end.facts, static_cast<std::uint64_t>(size), first);
  if (*content == 0) return refuse_pipe(collector, end, "no memory to copy what is in this pipe");
  return true;
}

// An empty pipe without a writer says that it is at its end; with one, that it would wait.
bool has_no_writer(int reader) {
  int scratch[2];
  if (sys::call(__NR_pipe2, scratch, O_CLOEXEC | O_NONBLOCK).failed()) return false;
  const sys::Fd scratch_out(scratch[0]);
  const sys::Fd scratch_in(scratch[1]);
  const auto copied = sys::call(__NR_tee, reader, scratch_in.get(), 1, 2 /* SPLICE_F_NONBLOCK */);
  return !copied.failed() && copied.value() == 0;
}

// Whether the end stays within the program. One of a named pipe that waits for its first writer does.
bool is_own_end(const Collector& collector, const OpenDescription* known, unsigned count, OpenDescription* end) {
  if (is_within(collector, known, count, *end)) return true;
  if (end->record->kind != DescriptionKind::kFifo || (end->record->status_flags & O_ACCMODE) != O_RDONLY) return false;
  if (!has_no_writer(end->fd)) return false;
  reinterpret_cast<format::FifoState*>(state_of(end->record))->had_writer = 0;
  return true;
}

bool settle_pipe(Collector* collector, OpenDescription* end, OpenDescription* known, unsigned count) {
  DescriptionRecord* record = end->record;
  const bool is_named = record->kind == DescriptionKind::kFifo;
  if (!is_own_end(*collector, known, count, end)) {
    const bool is_writer = (record->status_flags & O_ACCMODE) == O_WRONLY;
    if (misses_other_end(collector, EndPlace::kOutside, end->facts.inode, is_writer)) return postpone_end(collector, end->fd);
    if (!is_named || record->stream >= 0) {
      record->kind = DescriptionKind::kPipe;  // cut off by a restart, unless it is a standard stream
    } else {
      reinterpret_cast<format::FifoState*>(state_of(record))->leads_outside = 1;  // found again by its name
    }
    return true;
  }
  const auto capacity = sys::call(__NR_fcntl, end->fd, kGetPipeSize);
  record->size = capacity.failed() ? 0 : static_cast<std::uint64_t>(capacity.value());
  record->offset = 0;
  if (!is_named) record->kind = DescriptionKind::kOwnPipe;
  record->content = find_content(*collector, end->facts);  // another end of the same pipe came before
  if (record->content != 0) return true;
  const int reader = is_named ? find_reader(*end, known, count) : -1;
  if (is_named && reader < 0) return true;  // all readers are gone, and what they left with them
  return keep_pipe(collector, *end, reader, record->size, &record->content);
}

}  // namespace

int unread_bytes(int fd) {
  int count = 0;
  return sys::call(__NR_ioctl, fd, FIONREAD, &count).failed() ? 0 : count;
}

bool settle_pipes(Collector* collector, OpenDescription* known, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const DescriptionKind kind = known[i].record->kind;
    if (kind != DescriptionKind::kPipe && kind != DescriptionKind::kFifo) continue;
    if (!settle_pipe(collector, &known[i], known, count)) return false;
  }
  return true;
}

}  // namespace ckpt
