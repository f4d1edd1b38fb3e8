// Sockets that come back as new ones do, with their options and names: raw, ping and UDP-Lite sockets, and MPTCP sockets without a
// connection. What waits in them can't be put back, so nothing may.
#include <asm/poll.h>

#include "lib/resources/sockets/collect-tcp.h"

namespace ckpt {

namespace {

using format::SocketStage;
using format::SocketState;

constexpr int kAny = -1, kIcmp = 1, kIcmpv6 = 58, kUdpLite = 136, kMptcp = 262;
constexpr unsigned kPollReadHangUp = 0x2000;  // POLLRDHUP
constexpr int kAcceptsConnections = 30;       // SO_ACCEPTCONN

constexpr struct {
  int family, type, protocol;
} kPlainKinds[] = {{kAfInet, kRaw, kAny},          {kAfInet6, kRaw, kAny},         {kAfInet, kDatagram, kIcmp},
                   {kAfInet6, kDatagram, kIcmpv6}, {kAfInet, kDatagram, kUdpLite}, {kAfInet6, kDatagram, kUdpLite},
                   {kAfInet, kStream, kMptcp},     {kAfInet6, kStream, kMptcp}};

bool refuse(Collector* collector, const Descriptor& descriptor, const char* reason) {
  refuse_descriptor(collector, descriptor).add(reason);
  return false;
}

// Too large for an option of ours. By default it is zero: all passes.
bool has_icmpv6_filter(int fd) {
  std::uint8_t filter[32]{};
  unsigned size = sizeof(filter);
  if (sys::call(__NR_getsockopt, fd, kIcmpv6, 1 /* ICMPV6_FILTER */, filter, &size).failed()) return false;
  for (const std::uint8_t byte : filter) {
    if (byte != 0) return true;
  }
  return false;
}

// One that was never connected hangs up, and nobody has shut it.
bool collect_stream(Collector* collector, const Descriptor& descriptor, unsigned polled, SocketState* state) {
  tcp_info info{};
  if (socket_option(descriptor.fd, kSolSocket, kAcceptsConnections, 0) != 0 && read_tcp(descriptor.fd, &info)) {
    state->stage = SocketStage::kListening;
    state->backlog = info.tcpi_sacked;
    return true;
  }
  const bool is_fresh = state->remote_size == 0 && (polled & (kPollReadHangUp | POLLHUP)) == POLLHUP;
  return is_fresh || refuse(collector, descriptor, "an MPTCP connection can't be saved; close it and try again");
}

}  // namespace

bool is_plain_socket(const SocketState& state) {
  for (const auto& kind : kPlainKinds) {
    const bool is_same = kind.family == static_cast<int>(state.family) && kind.type == static_cast<int>(state.type);
    if (is_same && (kind.protocol == kAny || kind.protocol == static_cast<int>(state.protocol))) return true;
  }
  return false;
}

bool collect_plain_socket(Collector* collector, const Descriptor& descriptor, SocketState* state) {
  const unsigned polled = poll_now(descriptor.fd, POLLIN | kPollReadHangUp);
  if (state->type == kStream && !collect_stream(collector, descriptor, polled, state)) return false;
  if ((polled & (POLLIN | POLLERR)) != 0)
    return refuse(collector, descriptor, "a socket of this kind with what nobody has read can't be saved; try again later");
  if (has_icmpv6_filter(descriptor.fd))
    return refuse(collector, descriptor, "a socket with a filter of ICMPv6 can't be saved; close it and try again");
  if (state->type != kStream && state->remote_size != 0) state->stage = SocketStage::kConnected;
  return true;
}

}  // namespace ckpt
