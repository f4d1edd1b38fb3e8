// Unix sockets: names, and who is at the other end.
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/sockios.h>

#include "lib/resources/sockets/collect-unix.h"

namespace ckpt {

namespace {

using format::SocketStage;
using format::SocketState;

constexpr std::uint8_t kListen = 10;  // unix_diag_msg::udiag_state, a number of TCP

SocketStage stage_of(const UnixFacts& facts) {
  if (facts.state == kListen) return SocketStage::kListening;
  if (!facts.has_peer) return SocketStage::kIdle;
  return facts.peer == 0 ? SocketStage::kEnded : SocketStage::kConnected;
}

const OpenDescription* find_socket(const OpenDescription* known, unsigned count, std::uint64_t inode) {
  for (unsigned i = 0; i < count; ++i) {
    if (known[i].facts.inode == inode && is_socket(known[i])) return &known[i];
  }
  return nullptr;
}

bool is_socket_file(const FileFacts& file, std::uint32_t inode) {
  constexpr std::uint32_t kTypeMask = 0170000, kSocketType = 0140000;
  return (file.mode & kTypeMask) == kSocketType && static_cast<std::uint32_t>(file.inode) == inode;
}

// The file of a socket may have been renamed within its folder, as servers do to be there at once. Puts its path in `remote`.
void find_other_name(const char* path, std::uint32_t inode, SocketState* state) {
  constexpr std::size_t kLongestName = 108;  // sun_path
  char buffer[2048];
  sys::Text<kLongestName> folder;
  folder.add(path);
  while (folder.size() > 0 && path[folder.size() - 1] != '/') folder.shorten(folder.size() - 1);
  const std::size_t length = folder.size();
  sys::Directory entries(folder.c_str(), buffer);
  while (const auto* entry = entries.is_open() ? entries.next() : nullptr) {
    if (static_cast<std::uint32_t>(entry->inode) != inode) continue;
    folder.shorten(length);
    folder.add(entry->name);
    FileFacts file{};
    if (folder.is_cut() || read_facts(AT_FDCWD, folder.c_str(), &file).failed() || !is_socket_file(file, inode)) return;
    state->flags |= SocketState::kIsRenamed;
    state->file_mode = file.mode & 07777;
    state->remote_size = static_cast<std::uint32_t>(folder.size() + 3);
    memcpy(state->remote, state->local, 2);
    memcpy(state->remote + 2, folder.c_str(), folder.size() + 1);
    return;
  }
}

// Whether the file of its name is there, and how it may be used.
bool look_at_file(Collector* collector, int fd, const UnixFacts& facts, SocketState* state) {
  const auto* path = reinterpret_cast<const char*>(state->local + 2);
  if (!facts.has_file || state->local_size <= 3 || path[0] == '\0') return true;
  FileFacts file{};
  if (!read_facts(AT_FDCWD, path, &file).failed() && is_socket_file(file, facts.file_inode)) {
    state->flags |= SocketState::kHasFile;
    state->file_mode = file.mode & 07777;
    return true;
  }
  const bool has_own_file = state->stage == SocketStage::kListening || state->type == kDatagram;
  if (path[0] == '/' && has_own_file && state->remote_size == 0) find_other_name(path, facts.file_inode, state);
  if (path[0] == '/' || !has_own_file) return true;
  return refuse_socket(collector, fd, *state, "its relative name leads to its file no more; bind it by a full path");
}

// The listening socket in whose queue this one waits to be accepted, and its place there.
struct Search {
  std::uint64_t inode;
  unsigned place;
  std::uint64_t listener;
};

bool waits_at(std::uint64_t listener, Search* search) {
  UnixFacts facts{};
  if (!ask_unix_socket(listener, &facts)) return false;
  for (unsigned i = 0; i < facts.waiting_count; ++i) {
    if (facts.waiting[i] != search->inode) continue;
    search->place = i;
    search->listener = listener;
    return true;
  }
  return false;
}

bool find_listener(const Collector& collector, const OpenDescription* known, unsigned count, Search* search) {
  for (unsigned i = 0; i < count; ++i) {
    if (known[i].record->kind != format::DescriptionKind::kUnixSocket) continue;
    if (socket_state(known[i])->stage == SocketStage::kListening && waits_at(known[i].facts.inode, search)) return true;
  }
  const auto fits = [](const format::OpenEntry& entry, void* argument) {
    return is_socket(entry) && entry.inet.type == 0 && waits_at(entry.inode, static_cast<Search*>(argument));
  };
  return find_open_elsewhere(collector, fits, search) != nullptr;
}

bool settle_waiting(Collector* collector, const OpenDescription& end, const Search& search) {
  SocketState* state = socket_state(end);
  int sent = 0;
  if (sys::call(__NR_ioctl, end.fd, SIOCOUTQ, &sent).failed() || sent != 0)
    return refuse_socket(collector, end.fd, *state,
                         "data sent over a connection that nobody has accepted yet can't be saved; try again later") ||
           collector->postpone();
  state->stage = SocketStage::kWaiting;
  state->peer = search.listener;
  state->backlog = search.place;
  return true;
}

// The kernel shows one that is closed as 0. What it has sent is in the queue alone, and would be lost.
bool settle_listener(Collector* collector, const OpenDescription& end) {
  UnixFacts facts{};
  if (!ask_unix_socket(end.facts.inode, &facts)) return true;
  for (unsigned i = 0; i < facts.waiting_count; ++i) {
    if (facts.waiting[i] == 0) return refuse_ended_waiting(collector, end);
  }
  return true;
}

}  // namespace

bool collect_unix_socket(Collector* collector, const Descriptor& descriptor, SocketState* state) {
  UnixFacts facts{};
  const unsigned polled = poll_now(descriptor.fd, 0);
  if ((polled & POLLERR) != 0) state->flags |= SocketState::kHasError;
  if (!find_unix_socket(collector, descriptor.facts.inode, &facts))
    return refuse_socket(collector, descriptor.fd, *state,
                         "the kernel does not tell its other end (sock_diag); close it and try again");
  state->stage = stage_of(facts);
  state->shutdown = facts.shutdown;
  state->backlog = facts.backlog;
  state->peer = facts.peer;
  return look_at_file(collector, descriptor.fd, facts, state);
}

bool settle_unix_socket(Collector* collector, OpenDescription* end, OpenDescription* known, unsigned count) {
  SocketState* state = socket_state(*end);
  if (state->stage == SocketStage::kListening) return settle_listener(collector, *end);
  Search search{end->facts.inode, 0, 0};
  if (state->stage == SocketStage::kEnded && state->type != kDatagram) {
    if (find_listener(*collector, known, count, &search)) return settle_waiting(collector, *end, search);
    if (state->shutdown == 0) state->flags |= SocketState::kLeadsOutside;  // it waits for somebody else
  }
  // The other end may be another member's: then they find each other by their inodes.
  const bool is_within = find_socket(known, count, state->peer) != nullptr || is_open_elsewhere(*collector, state->peer);
  if (state->stage == SocketStage::kConnected && !is_within) {
    if (misses_other_end(collector, EndPlace::kOutside, state->peer, true)) return postpone_end(collector, end->fd);
    state->flags |= SocketState::kLeadsOutside;
    state->peer = 0;
  }
  return true;
}

bool keep_unix_queues(Collector* collector, Listing* listing) {
  for (unsigned i = 0; i < listing->count; ++i) {
    const OpenDescription& end = listing->known[i];
    if (end.record->kind != format::DescriptionKind::kUnixSocket) continue;
    if (socket_state(end)->stage != SocketStage::kListening && !keep_queue(collector, end, listing)) return false;
  }
  return true;
}

}  // namespace ckpt
