// What is known of a TCP socket, and the way of what it sends. Freestanding.
#pragma once

#include <linux/tcp.h>

#include "lib/resources/sockets/collect.h"

namespace ckpt {

using format::Endpoint;

// As in tcp_info::tcpi_state.
enum TcpState : std::uint8_t {
  kEstablished = 1,
  kSynSent,
  kSynReceived,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClose,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing
};

bool read_tcp(int fd, tcp_info* info);
int unsent_bytes(int fd);
std::uint64_t network_of(int fd);

inline bool operator==(const Endpoint& a, const Endpoint& b) { return memcmp(&a, &b, sizeof(a)) == 0; }
inline bool has_same_port(const Endpoint& a, const Endpoint& b) { return memcmp(a.port, b.port, sizeof(a.port)) == 0; }
bool is_any(const Endpoint& endpoint);
Endpoint endpoint_of(const std::uint8_t* address);  // sockaddr

// Waits until all that the sender has sent has come to `to`, so that it can be seen there. `from`: the sender, where it is a
// descriptor of this process; else -1. False: the receiver can't take it.
bool bring_to_receiver(format::InetFacts sender, int from, int to);

// Which directions of a UDP socket are shut: SocketState::kShut… (collect-diag.cc).
std::uint32_t udp_shutdown(std::uint64_t inode, const format::SocketState& state);
// One that nobody has accepted yet, in the queue of a listening socket, and whose other end is closed.
bool has_ended_connection_waiting(const format::SocketState& listener);

}  // namespace ckpt
