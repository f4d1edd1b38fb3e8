// See collect-unix.h.
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include "lib/resources/sockets/collect-unix.h"

namespace ckpt {

namespace {

struct Request {
  nlmsghdr header;
  unix_diag_req body;
};

template <typename T>
T read_as(const std::uint8_t* from) {
  T value;
  memcpy(&value, from, sizeof(value));
  return value;
}

void take_attribute(const nlattr& attribute, const std::uint8_t* value, UnixFacts* facts) {
  switch (attribute.nla_type) {
    case UNIX_DIAG_PEER:
      facts->has_peer = true;
      facts->peer = read_as<std::uint32_t>(value);
      return;
    case UNIX_DIAG_VFS:
      facts->has_file = true;
      facts->file_inode = read_as<unix_diag_vfs>(value).udiag_vfs_ino;
      return;
    case UNIX_DIAG_RQLEN:
      facts->backlog = read_as<unix_diag_rqlen>(value).udiag_wqueue;
      return;
    case UNIX_DIAG_SHUTDOWN:
      facts->shutdown = *value;
      return;
    case UNIX_DIAG_ICONS:
      facts->waiting_count = (attribute.nla_len - sizeof(attribute)) / sizeof(std::uint32_t);
      if (facts->waiting_count > kMostWaiting) facts->waiting_count = kMostWaiting;
      memcpy(facts->waiting, value, facts->waiting_count * sizeof(std::uint32_t));
      return;
    default:
      return;
  }
}

bool parse_answer(const std::uint8_t* answer, std::size_t size, UnixFacts* facts) {
  if (size < sizeof(nlmsghdr) + sizeof(unix_diag_msg)) return false;
  const auto header = read_as<nlmsghdr>(answer);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || header.nlmsg_len > size) return false;
  facts->state = read_as<unix_diag_msg>(answer + sizeof(header)).udiag_state;
  std::size_t at = sizeof(header) + sizeof(unix_diag_msg);
  while (at + sizeof(nlattr) <= header.nlmsg_len) {
    const auto attribute = read_as<nlattr>(answer + at);
    if (attribute.nla_len < sizeof(nlattr) || attribute.nla_len > header.nlmsg_len - at) return false;
    take_attribute(attribute, answer + at + sizeof(nlattr), facts);
    at += format::align_up(attribute.nla_len, 4);
  }
  return true;
}

constexpr unsigned kDetails = UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN;

// Not open: there are no such diagnostics. `inode` 0: all.
sys::Fd ask(std::uint64_t inode, unsigned details) {
  sys::Fd netlink(sys::call(__NR_socket, kAfNetlink, kRaw | O_CLOEXEC, NETLINK_SOCK_DIAG));
  Request request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | (inode == 0 ? NLM_F_DUMP : 0);
  request.body.sdiag_family = kAfUnix;
  request.body.udiag_states = ~0U;
  request.body.udiag_ino = static_cast<std::uint32_t>(inode);
  request.body.udiag_show = details;
  request.body.udiag_cookie[0] = request.body.udiag_cookie[1] = ~0U;
  if (netlink.is_open() && sys::write(netlink.get(), &request, sizeof(request)).failed()) netlink.reset();
  return netlink;
}

// 0: there is no more.
std::size_t receive(const sys::Fd& netlink, std::uint8_t* answer, std::size_t size) {
  const auto got = sys::call(__NR_recvfrom, netlink.get(), answer, size, 0x40 /* MSG_DONTWAIT */, nullptr, nullptr);
  return got.failed() ? 0 : static_cast<std::size_t>(got.value());
}

// One behind the other in the arena, without who waits.
struct Noted {
  std::uint32_t inode, peer, backlog, file_inode;
  std::uint8_t state, shutdown, has_peer, has_file;
};

std::uint32_t inode_of(const std::uint8_t* answer) { return read_as<unix_diag_msg>(answer + sizeof(nlmsghdr)).udiag_ino; }

// Each message of an answer. False: it was the last one.
bool note_all(UnixSockets* sockets, Arena* arena, const std::uint8_t* answer, std::size_t size) {
  for (std::size_t at = 0; at + sizeof(nlmsghdr) <= size;) {
    const auto header = read_as<nlmsghdr>(answer + at);
    UnixFacts facts{};
    if (header.nlmsg_len < sizeof(header) || !parse_answer(answer + at, size - at, &facts)) return false;
    auto* noted = static_cast<Noted*>(arena->take(sizeof(Noted), alignof(Noted)));
    if (noted == nullptr) return false;
    *noted = {inode_of(answer + at), facts.peer,     facts.backlog,  facts.file_inode,
              facts.state,           facts.shutdown, facts.has_peer, facts.has_file};
    if (sockets->count++ == 0) sockets->first = noted;
    at += format::align_up(header.nlmsg_len, 4);
  }
  return size != 0;
}

// Places by inode: the next free one where that is taken.
bool make_places(UnixSockets* sockets, Arena* arena) {
  sockets->places = 64;
  while (sockets->places < 2 * sockets->count) sockets->places *= 2;
  sockets->place = arena->take_array<std::uint32_t>(sockets->places);
  const auto* noted = static_cast<const Noted*>(sockets->first);
  for (std::uint32_t i = 0; sockets->place != nullptr && i < sockets->count; ++i) {
    std::uint32_t at = noted[i].inode & (sockets->places - 1);
    while (sockets->place[at] != 0) at = (at + 1) & (sockets->places - 1);
    sockets->place[at] = i + 1;
  }
  return sockets->place != nullptr;
}

void note_sockets(UnixSockets* sockets, Arena* arena) {
  constexpr std::size_t kAnswer = 32U << 10;
  auto* answer = arena->take_array<std::uint8_t>(kAnswer);
  const sys::Fd netlink = answer == nullptr ? sys::Fd() : ask(0, kDetails);
  while (netlink.is_open() && note_all(sockets, arena, answer, receive(netlink, answer, kAnswer))) {
  }
  if (!make_places(sockets, arena)) sockets->count = 0;
}

const Noted* find_noted(const UnixSockets& sockets, std::uint64_t inode) {
  const auto* noted = static_cast<const Noted*>(sockets.first);
  for (std::uint64_t at = inode & (sockets.places - 1); sockets.place[at] != 0; at = (at + 1) & (sockets.places - 1)) {
    if (noted[sockets.place[at] - 1].inode == static_cast<std::uint32_t>(inode)) return &noted[sockets.place[at] - 1];
  }
  return nullptr;
}

}  // namespace

bool ask_unix_socket(std::uint64_t inode, UnixFacts* facts) {
  alignas(8) std::uint8_t answer[8192];
  const sys::Fd netlink = ask(inode, kDetails | UDIAG_SHOW_ICONS);
  return netlink.is_open() && parse_answer(answer, receive(netlink, answer, sizeof(answer)), facts);
}

bool find_unix_socket(Collector* collector, std::uint64_t inode, UnixFacts* facts) {
  constexpr unsigned kFew = 32;
  UnixSockets* sockets = &collector->unix_sockets;
  if (sockets->asked++ == kFew) note_sockets(sockets, collector->arena);
  const Noted* noted = sockets->count == 0 ? nullptr : find_noted(*sockets, inode);
  if (noted == nullptr) return ask_unix_socket(inode, facts);
  *facts = {};
  facts->state = noted->state;
  facts->shutdown = noted->shutdown;
  facts->has_peer = noted->has_peer != 0;
  facts->peer = noted->peer;
  facts->backlog = noted->backlog;
  facts->has_file = noted->has_file != 0;
  facts->file_inode = noted->file_inode;
  return true;
}

}  // namespace ckpt
