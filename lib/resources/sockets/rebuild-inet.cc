// TCP and UDP: names and listening sockets where the program was; TCP connections in the socket factory.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/sockios.h>

#include <cstring>

#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

namespace {

using format::SocketStage;
using format::SocketState;

const sockaddr* address_of(const std::string& name) { return reinterpret_cast<const sockaddr*>(name.data()); }

unsigned port_of(const std::string& name) {
  std::uint16_t port = 0;
  if (name.size() >= 4) std::memcpy(&port, name.data() + 2, sizeof(port));
  return ntohs(port);
}

bool is_any_address(const std::string& name) {
  for (std::size_t i = name.size() > sizeof(sockaddr_in) ? 8 : 4;
       i < name.size() && i < (name.size() > sizeof(sockaddr_in) ? 24U : 8U); ++i) {
    if (name[i] != 0) return false;
  }
  return true;
}

std::string with_port(std::string name, unsigned port) {
  const std::uint16_t wire = htons(static_cast<std::uint16_t>(port));
  std::memcpy(name.data() + 2, &wire, sizeof(wire));
  return name;
}

// An IPv4 address as it is, not as an IPv6 socket shows it (::ffff:a.b.c.d); and the other way round. Others stay.
std::string unmapped(const std::string& name) {
  sockaddr_in6 shown{};
  if (name.size() != sizeof(shown)) return name;
  std::memcpy(&shown, name.data(), sizeof(shown));
  if (!IN6_IS_ADDR_V4MAPPED(&shown.sin6_addr)) return name;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = shown.sin6_port;
  std::memcpy(&address.sin_addr, shown.sin6_addr.s6_addr + 12, sizeof(address.sin_addr));
  return {reinterpret_cast<const char*>(&address), sizeof(address)};
}

std::string mapped(const std::string& name) {
  sockaddr_in address{};
  if (name.size() != sizeof(address)) return name;
  std::memcpy(&address, name.data(), sizeof(address));
  sockaddr_in6 shown{};
  shown.sin6_family = AF_INET6;
  shown.sin6_port = address.sin_port;
  shown.sin6_addr.s6_addr[10] = shown.sin6_addr.s6_addr[11] = 0xff;
  std::memcpy(shown.sin6_addr.s6_addr + 12, &address.sin_addr, sizeof(address.sin_addr));
  return {reinterpret_cast<const char*>(&shown), sizeof(shown)};
}

Fd make_socket(const SocketState& state) {
  Fd fd(socket(static_cast<int>(state.family), static_cast<int>(state.type) | SOCK_CLOEXEC, static_cast<int>(state.protocol)));
  const bool is_raw = state.type == SOCK_RAW;
  if (!fd.is_open())
    throw Error::from_errno("create", is_raw ? "a raw socket (see CAP_NET_RAW)" : "a socket", errno, ExitCode::kRunner);
  return fd;
}

// An end whose other one is not known any more had one: it stands in for it.
std::string invented_remote(const SocketState& state) {
  constexpr std::uint16_t kPort = 9;
  if (state.family == AF_INET) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(kPort);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  sockaddr_in6 address{};
  sockaddr_in6 local{};
  std::memcpy(&local, state.local, sizeof(local));
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(kPort);
  address.sin6_addr = in6addr_loopback;
  if (IN6_IS_ADDR_V4MAPPED(&local.sin6_addr)) inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
  return {reinterpret_cast<const char*>(&address), sizeof(address)};
}

TcpEnd end_of(const SocketState& state) {
  std::string remote = remote_name(state);
  if (remote.empty()) remote = invented_remote(state);
  return {static_cast<int>(state.family), local_name(state), remote};
}

int unsent_bytes(int fd) {
  int count = 0;
  return ioctl(fd, SIOCOUTQ, &count) == 0 ? count : 0;
}

bool has_ipv4(const Socket& socket) {
  if (socket.state.family == AF_INET) return true;
  for (const auto& option : socket.options) {
    if (option.level == IPPROTO_IPV6 && option.name == IPV6_V6ONLY) return option.value[0] == 0;
  }
  return true;
}

bool is_connection(const Socket& socket) {
  const SocketStage stage = socket.state.stage;
  return socket.is_inet() && !socket.is_datagram() && (stage == SocketStage::kConnected || stage == SocketStage::kEnded);
}

}  // namespace

std::string local_name(const SocketState& state) { return {reinterpret_cast<const char*>(state.local), state.local_size}; }
std::string remote_name(const SocketState& state) { return {reinterpret_cast<const char*>(state.remote), state.remote_size}; }

std::string describe_address(const std::string& name) {
  char text[INET6_ADDRSTRLEN] = "?";
  const bool is_ipv6 = name.size() > sizeof(sockaddr_in);
  inet_ntop(is_ipv6 ? AF_INET6 : AF_INET, name.data() + (is_ipv6 ? 8 : 4), text, sizeof(text));
  return (is_ipv6 ? "[" + std::string(text) + "]" : std::string(text)) + ":" + std::to_string(port_of(name));
}

// Old connections of the program may still hold its port for a while: that is no reason to wait.
Fd make_bound_socket(const Socket& socket) {
  Fd fd = make_socket(socket.state);
  set_early_options(fd.get(), socket);
  const std::string name = local_name(socket.state);
  const int on = 1;
  if (socket.state.type == SOCK_STREAM) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (port_of(name) == 0 && is_any_address(name)) return fd;
  if (bind(fd.get(), address_of(name), static_cast<socklen_t>(name.size())) != 0) {
    throw Error::from_errno("bind a socket to", describe_address(name), errno, ExitCode::kRunner);
  }
  return fd;
}

void Sockets::make_inet() {
  // First: in the network of the machine, those who listen would be in the way.
  if (std::ranges::any_of(sockets_, is_connection)) run_in_factory([this] { make_tcp_connections(); });
  for (Socket& socket : sockets_) {
    if (!socket.is_inet() || is_connection(socket)) continue;
    socket.own = make_bound_socket(socket);
    if (socket.state.stage == SocketStage::kListening && listen(socket.own.get(), static_cast<int>(socket.state.backlog)) != 0)
      throw Error::from_errno("listen on", describe_address(local_name(socket.state)), errno, ExitCode::kRunner);
  }
  for (Socket& socket : sockets_) {
    if (!socket.is_inet() || socket.state.stage != SocketStage::kWaiting) continue;
    const std::string to = remote_name(socket.state);
    if (connect(socket.own.get(), address_of(to), static_cast<socklen_t>(to.size())) != 0)
      throw Error::from_errno("connect to", describe_address(to), errno, ExitCode::kRunner);
  }
  // Not before: while they are made, all have SO_REUSEADDR, for many can have the port of one listener.
  for (const Socket& socket : sockets_) {
    if (is_connection(socket)) set_early_options(socket.own.get(), socket);
  }
}

void Sockets::make_tcp_connections() {
  for (Socket& socket : sockets_) {
    if (!is_connection(socket) || socket.own.is_open()) continue;
    Socket* peer = socket.state.peer == 0 ? nullptr : find(socket.state.peer);
    const TcpEnd own = end_of(socket.state);
    const TcpEnd far = peer != nullptr ? end_of(peer->state) : TcpEnd{own.family, own.remote, own.address};
    auto [first, second] = connect_in_factory(own, far, peer == nullptr);
    socket.own = std::move(first);
    (peer != nullptr ? peer->own : socket.far) = std::move(second);
  }
}

// What does not go into the receiver's window at once goes when that is opened by looking at a byte.
void Sockets::fill_tcp(int from, int to, const std::vector<UnreadMessage>& messages) {
  constexpr int kPatience = 10000;
  std::size_t size = 0;
  for (const UnreadMessage& message : messages) size += message.data.size();
  // No wider than it takes: the sender may go on to send as much as it has been told.
  const auto open_window = [to](std::size_t bytes) {
    const int lowat = static_cast<int>(bytes);
    setsockopt(to, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat));
  };
  open_window(size = std::min<std::size_t>(size, format::kWidestWindow));
  int tries = 0;
  for (const UnreadMessage& message : messages) {
    for (std::size_t done = 0; done < message.data.size();) {
      const ssize_t count = send(from, message.data.data() + done, message.data.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count > 0) done += static_cast<std::size_t>(count);
      if (count >= 0) continue;
      char byte = 0;
      if (errno != EAGAIN || ++tries > kPatience) throw Error::from_errno("fill", "a TCP socket", errno, ExitCode::kRunner);
      if (tries % 50 == 0 && size < std::size_t{format::kWidestWindow})
        open_window(size *= 2);  // small packets take more room than they hold
      recv(to, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      pollfd entry{from, POLLOUT, 0};
      poll(&entry, 1, 1);
    }
  }
}

// The other end of a connection that led outside, or was ended, goes: what it has sent arrives, then a reset, or its end if that
// had come already.
void Sockets::end_tcp(Socket& socket) {
  constexpr int kPatience = 2000;
  for (int tries = 0; tries < kPatience && unsent_bytes(socket.far.get()) != 0; ++tries) {
    char byte = 0;
    recv(socket.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    poll(nullptr, 0, 1);
  }
  const linger at_once{1, 0};
  const bool has_finished =
      socket.state.stage == SocketStage::kConnected && (socket.state.shutdown & SocketState::kShutReceive) != 0;
  if (!has_finished) setsockopt(socket.far.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  socket.far.reset();
  const bool is_told = socket.state.stage == SocketStage::kEnded && (socket.state.flags & SocketState::kHasError) == 0;
  int error = 0;
  socklen_t size = sizeof(error);
  if (is_told) getsockopt(socket.fd, SOL_SOCKET, SO_ERROR, &error, &size);  // the program has heard of the end already
}

// Datagrams are sent again from the socket they came from, or from one with its address. What came from another machine can't be:
// it is lost, as the network may lose it.
void Sockets::fill_udp(Socket& socket, const std::vector<UnreadMessage>& messages) {
  const std::string own = unmapped(local_name(socket.state));
  for (const UnreadMessage& message : messages) {
    const std::string from = unmapped(message.name);
    const std::string to = is_any_address(own) ? with_port(from, port_of(own)) : own;
    if (const Socket* sender = find_udp_sender(from); sender != nullptr) {
      send_message(sender->fd, message, sender->state.family == AF_INET6 ? mapped(to) : to);
      continue;
    }
    SocketState gone{};
    gone.family = reinterpret_cast<const sockaddr*>(from.data())->sa_family;
    gone.type = SOCK_DGRAM;
    const Fd temporary = make_socket(gone);
    if (bind(temporary.get(), address_of(from), static_cast<socklen_t>(from.size())) == 0)
      send_message(temporary.get(), message, to);
  }
}

// Who has this address and port, or else the port at every address; nullptr: nobody.
const Socket* Sockets::find_udp_sender(const std::string& address) const {
  const Socket* at_every = nullptr;
  for (const Socket& socket : sockets_) {
    if (!socket.is_inet() || !socket.is_datagram()) continue;
    const std::string name = unmapped(local_name(socket.state));
    if (name == address) return &socket;
    const bool may_send = address.size() == sizeof(sockaddr_in) ? has_ipv4(socket) : socket.state.family == AF_INET6;
    // An IPv6 socket may have both: its own family is preferred.
    if (port_of(name) == port_of(address) && is_any_address(name) && may_send &&
        (at_every == nullptr || name.size() == address.size()))
      at_every = &socket;
  }
  return at_every;
}

void Sockets::connect_udp(Socket& socket) {
  if (!socket.is_inet() || !socket.is_datagram() || socket.state.stage != SocketStage::kConnected) return;
  const std::string to = remote_name(socket.state);
  if (connect(socket.fd, address_of(to), static_cast<socklen_t>(to.size())) != 0)
    throw Error::from_errno("connect a UDP socket to", describe_address(to), errno, ExitCode::kRunner);
}

}  // namespace ckpt
