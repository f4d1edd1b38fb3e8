// What no call tells of a socket, and the diagnostics do (sock_diag(7)): which directions of a UDP socket have been shut; and
// whether a connection whose other end is closed waits to be accepted.
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "lib/resources/sockets/collect-tcp.h"

namespace ckpt {

namespace {

using format::SocketState;

constexpr int kTcp = 6, kUdp = 17, kPort = 2 /* its place in a sockaddr */;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

// The socket that a dump is searched for; inode 0: any that nobody has open.
struct Wanted {
  std::uint32_t inode;
  bool is_found;
  std::uint32_t shutdown;
};

void take_socket(const std::uint8_t* message, std::size_t size, Wanted* wanted) {
  inet_diag_msg facts{};
  if (size < sizeof(facts)) return;
  memcpy(&facts, message, sizeof(facts));
  if (facts.idiag_inode != wanted->inode) return;
  wanted->is_found = true;
  for (std::size_t at = sizeof(facts); at + sizeof(nlattr) < size;) {
    nlattr attribute;
    memcpy(&attribute, message + at, sizeof(attribute));
    if (attribute.nla_len < sizeof(attribute)) return;
    if (attribute.nla_type == INET_DIAG_SHUTDOWN) wanted->shutdown = message[at + sizeof(attribute)];
    at += format::align_up(attribute.nla_len, 4);
  }
}

// False: the answer has ended.
bool take_answer(const std::uint8_t* answer, std::size_t size, Wanted* wanted) {
  for (std::size_t at = 0; at + sizeof(nlmsghdr) <= size;) {
    nlmsghdr header;
    memcpy(&header, answer + at, sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > size - at || header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return false;
    take_socket(answer + at + sizeof(header), header.nlmsg_len - sizeof(header), wanted);
    at += format::align_up(header.nlmsg_len, 4);
  }
  return !wanted->is_found;
}

// Looks through all sockets with the local port of `state` that are in one of `states`.
void search(const SocketState& state, int protocol, std::uint32_t states, Wanted* wanted) {
  Request request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<std::uint8_t>(state.family);
  request.body.sdiag_protocol = static_cast<std::uint8_t>(protocol);
  request.body.idiag_states = states;
  memcpy(&request.body.id.idiag_sport, state.local + kPort, sizeof(request.body.id.idiag_sport));
  if (request.body.id.idiag_sport == 0) return;  // it is in no table
  const sys::Fd netlink(sys::call(__NR_socket, kAfNetlink, kRaw | O_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink.is_open() || sys::write(netlink.get(), &request, sizeof(request)).failed()) return;
  alignas(8) std::uint8_t answer[16384];
  for (bool is_more = true; is_more;) {
    const auto size = sys::call(__NR_recvfrom, netlink.get(), answer, sizeof(answer), 0x40 /* MSG_DONTWAIT */, nullptr, nullptr);
    is_more = !size.failed() && size.value() > 0 && take_answer(answer, static_cast<std::size_t>(size.value()), wanted);
  }
}

}  // namespace

std::uint32_t udp_shutdown(std::uint64_t inode, const SocketState& state) {
  Wanted wanted{static_cast<std::uint32_t>(inode), false, 0};
  search(state, kUdp, ~0U, &wanted);
  return wanted.shutdown & (SocketState::kShutReceive | SocketState::kShutSend);
}

bool has_ended_connection_waiting(const SocketState& listener) {
  Wanted wanted{0, false, 0};
  search(listener, kTcp, 1U << kCloseWait, &wanted);
  return wanted.is_found;
}

}  // namespace ckpt
