// TCP and UDP: how a connection stands, and which socket of the job is its other end.
#include <asm/poll.h>

#include "lib/resources/sockets/collect-tcp.h"

namespace ckpt {

namespace {

using format::SocketStage;
using format::SocketState;

constexpr unsigned kPollReadHangUp = 0x2000;  // POLLRDHUP

bool is_tcp(const SocketState& state) { return state.type == kStream; }

bool collect_tcp(Collector* collector, int fd, unsigned polled, SocketState* state) {
  tcp_info info;
  if (!read_tcp(fd, &info)) return refuse_socket(collector, fd, *state, "the kernel does not tell how it stands (TCP_INFO)");
  char layer[16]{};
  unsigned layer_size = sizeof(layer);
  if (!sys::call(__NR_getsockopt, fd, 6, 31 /* TCP_ULP */, layer, &layer_size).failed() && layer_size != 0 && layer[0] != '\0')
    return refuse_socket(collector, fd, *state, "a connection with TLS by the kernel, or the like, can't be saved; close it");
  const bool is_shut = (polled & kPollReadHangUp) != 0;
  if (is_shut) state->shutdown |= SocketState::kShutReceive;
  switch (static_cast<TcpState>(info.tcpi_state)) {
    case kEstablished:
    case kCloseWait:
      state->stage = SocketStage::kConnected;
      return true;
    case kFinWait1:
    case kFinWait2:
    case kLastAck:
    case kClosing:
      state->stage = SocketStage::kConnected;
      state->shutdown |= SocketState::kShutSend;
      return true;
    case kTimeWait:
    case kClose:
      state->stage = is_shut ? SocketStage::kEnded : SocketStage::kIdle;
      if (is_shut) state->shutdown |= SocketState::kShutSend;
      return true;
    case kListen:
      state->stage = SocketStage::kListening;
      state->backlog = info.tcpi_sacked;
      return true;
    case kSynSent:
    case kSynReceived:
      break;
  }
  return refuse_socket(collector, fd, *state, "a connection that is just being made can't be saved; try again later") ||
         collector->postpone();
}

// What two ends need to find each other.
struct Route {
  Endpoint local, remote;
  std::uint64_t network;
};

Route route_of(const OpenDescription& end) {
  const SocketState& state = *socket_state(end);
  return {endpoint_of(state.local), endpoint_of(state.remote), network_of(end.fd)};
}

// The other end of a connection: its socket, and the descriptor if it is of this process.
struct OtherEnd {
  std::uint64_t inode = 0;  // 0: not found
  int fd = -1;
  format::InetFacts facts = {};
};

bool is_connection(unsigned state) { return state != kListen && state != kClose && state != kSynSent && state != kSynReceived; }

bool is_other_end(const format::InetFacts& facts, const Route& route, unsigned type) {
  return facts.type == type && facts.network == route.network && facts.local == route.remote && facts.remote == route.local;
}

OtherEnd find_other_end(const Collector& collector, const OpenDescription& end, const OpenDescription* known, unsigned count) {
  Route route = route_of(end);
  OtherEnd other;
  for (unsigned i = 0; i < count; ++i) {
    if (&known[i] == &end || known[i].record->kind != format::DescriptionKind::kInetSocket) continue;
    const SocketState& state = *socket_state(known[i]);
    if (state.stage != SocketStage::kConnected || !(endpoint_of(state.local) == route.remote) ||
        !(endpoint_of(state.remote) == route.local))
      continue;
    describe_inet(known[i].fd, &other.facts);
    if (is_other_end(other.facts, route, socket_state(end)->type)) return {known[i].facts.inode, known[i].fd, other.facts};
  }
  const auto fits = [](const format::OpenEntry& entry, void* wanted) {
    return is_socket(entry) && is_connection(entry.inet.state) && is_other_end(entry.inet, *static_cast<Route*>(wanted), kStream);
  };
  const auto* entry = is_tcp(*socket_state(end)) ? find_open_elsewhere(collector, fits, &route) : nullptr;
  if (entry != nullptr) return {entry->inode, -1, entry->inet};
  return {};
}

bool is_listener(const format::InetFacts& facts, const Route& route) {
  const bool is_there = facts.local == route.remote || (is_any(facts.local) && has_same_port(facts.local, route.remote));
  return facts.type == kStream && facts.state == kListen && facts.waiting != 0 && facts.network == route.network && is_there;
}

// An end that has been closed was accepted before.
bool is_other_end_closed(const OpenDescription& end) {
  tcp_info info;
  if (!read_tcp(end.fd, &info)) return false;
  const auto state = static_cast<TcpState>(info.tcpi_state);
  return state == kCloseWait || state == kLastAck || state == kClosing;
}

// The inode of the listening socket in whose queue the other end waits to be accepted; 0: there is none.
std::uint64_t find_listener(const Collector& collector, const OpenDescription& end, const OpenDescription* known, unsigned count) {
  if (is_other_end_closed(end)) return 0;
  Route route = route_of(end);
  for (unsigned i = 0; i < count; ++i) {
    if (known[i].record->kind != format::DescriptionKind::kInetSocket) continue;
    if (socket_state(known[i])->stage != SocketStage::kListening) continue;
    format::InetFacts facts;
    describe_inet(known[i].fd, &facts);
    if (is_listener(facts, route)) return known[i].facts.inode;
  }
  const auto fits = [](const format::OpenEntry& entry, void* wanted) {
    return is_socket(entry) && is_listener(entry.inet, *static_cast<Route*>(wanted));
  };
  const auto* entry = find_open_elsewhere(collector, fits, &route);
  return entry == nullptr ? 0 : entry->inode;
}

bool settle_waiting(Collector* collector, const OpenDescription& end, std::uint64_t listener) {
  SocketState* state = socket_state(end);
  tcp_info info;
  if (!read_tcp(end.fd, &info) || info.tcpi_bytes_acked > 1 || unsent_bytes(end.fd) != 0)
    return refuse_socket(collector, end.fd, *state,
                         "data sent over a connection that nobody has accepted yet can't be saved; try again later") ||
           collector->postpone();
  state->stage = SocketStage::kWaiting;
  state->peer = listener;
  return true;
}

// What those have sent who are closed already is in the queue alone, and would be lost.
bool settle_listener(Collector* collector, const OpenDescription& end) {
  format::InetFacts facts;
  describe_inet(end.fd, &facts);
  if (facts.waiting == 0 || !has_ended_connection_waiting(*socket_state(end))) return true;
  return refuse_ended_waiting(collector, end);
}

bool settle_tcp(Collector* collector, OpenDescription* end, OpenDescription* known, unsigned count) {
  SocketState* state = socket_state(*end);
  if (state->stage == SocketStage::kIdle) return true;
  if (state->stage == SocketStage::kListening) return settle_listener(collector, *end);
  if (state->stage == SocketStage::kConnected) {
    const OtherEnd other = find_other_end(*collector, *end, known, count);
    state->peer = other.inode;
    if (other.inode == 0) {
      const std::uint64_t listener = find_listener(*collector, *end, known, count);
      if (listener != 0) return settle_waiting(collector, *end, listener);
      state->flags |= SocketState::kLeadsOutside;
      if (end->record->stream >= 0) return true;
    } else if (!bring_to_receiver(other.facts, other.fd, end->fd)) {
      return refuse_socket(collector, end->fd, *state, "more is on its way to it than it can take; try again later") ||
             collector->postpone();
    }
  }
  return keep_queue(collector, *end, nullptr);
}

}  // namespace

bool collect_inet_socket(Collector* collector, const Descriptor& descriptor, SocketState* state) {
  const unsigned polled = poll_now(descriptor.fd, kPollReadHangUp);
  if ((polled & POLLERR) != 0) state->flags |= SocketState::kHasError;
  if (is_tcp(*state)) return collect_tcp(collector, descriptor.fd, polled, state);
  state->stage = state->remote_size != 0 ? SocketStage::kConnected : SocketStage::kIdle;
  if ((polled & kPollReadHangUp) != 0) state->shutdown |= SocketState::kShutReceive;
  state->shutdown |= udp_shutdown(descriptor.facts.inode, *state);
  if (unsent_bytes(descriptor.fd) == 0) return true;
  return refuse_socket(collector, descriptor.fd, *state, "a datagram that is begun (MSG_MORE) can't be saved; try again later") ||
         collector->postpone();
}

bool settle_inet_socket(Collector* collector, OpenDescription* end, OpenDescription* known, unsigned count) {
  if (is_tcp(*socket_state(*end))) return settle_tcp(collector, end, known, count);
  if (socket_state(*end)->stage == SocketStage::kConnected)
    socket_state(*end)->peer = find_other_end(*collector, *end, known, count).inode;
  return keep_queue(collector, *end, nullptr);
}

}  // namespace ckpt
