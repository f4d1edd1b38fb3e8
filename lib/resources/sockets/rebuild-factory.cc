// The socket factory: a private network namespace in which every address is local. TCP connections with any addresses are made
// there, without a clash of ports and without waiting for old ones (TIME_WAIT), and live on in the program when nobody else is left
// in it. Where such a namespace is refused they are made in the machine's own network, as far as their addresses are its own.
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <thread>

#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

namespace {

using format::SocketState;

constexpr int kIpv6FreeBind = 78;  // IPV6_FREEBIND, Linux 4.15

bool g_has_namespace = false;  // of the thread that makes connections

void raise_loopback() {
  const Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (!fd.is_open() || ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0)
    throw Error::from_errno("raise", "the loopback interface of a network namespace", errno, ExitCode::kRunner);
}

struct RouteRequest {
  nlmsghdr header;
  rtmsg route;
  rtattr attribute;
  std::uint32_t interface;
};

// Every address of this family is our own. Where IPv6 is switched off, there is nothing to be had, and nothing needs it.
void make_all_local(int family) {
  const Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  RouteRequest request{};
  request.header = {sizeof(request), RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK, 1, 0};
  request.route.rtm_family = static_cast<unsigned char>(family);
  request.route.rtm_table = RT_TABLE_LOCAL;
  request.route.rtm_protocol = RTPROT_BOOT;
  request.route.rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
  request.route.rtm_type = RTN_LOCAL;
  request.attribute = {RTA_LENGTH(sizeof(request.interface)), RTA_OIF};
  request.interface = if_nametoindex("lo");
  char answer[1024];
  if (!fd.is_open() || send(fd.get(), &request, sizeof(request), 0) < 0 || recv(fd.get(), answer, sizeof(answer), 0) < 0)
    throw Error::from_errno("set up", "a network namespace", errno, ExitCode::kRunner);
}

// False: it is refused, as the plan has said.
bool enter_namespace() {
  if (unshare(CLONE_NEWNET) != 0) return false;
  raise_loopback();
  make_all_local(AF_INET);
  make_all_local(AF_INET6);
  return true;
}

// The same family, on this machine, with any port.
std::string any_loopback(int family) {
  if (family == AF_INET) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  return {reinterpret_cast<const char*>(&address), sizeof(address)};
}

std::string own_name(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return {reinterpret_cast<const char*>(&address), size};
}

const sockaddr* as_name(const std::string& address) { return reinterpret_cast<const sockaddr*>(address.data()); }

Fd make_stream(int family) {
  Fd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  const int off = 0;
  if (!fd.is_open()) throw Error::from_errno("create", "a TCP socket", errno, ExitCode::kRunner);
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(fd.get(), IPPROTO_IPV6, kIpv6FreeBind, &on, sizeof(on));
  }
  return fd;
}

Fd make_bound(int family, const std::string& address) {
  Fd fd = make_stream(family);
  if (bind(fd.get(), as_name(address), static_cast<socklen_t>(address.size())) != 0)
    throw Error::from_errno("bind to", describe_address(address), errno, ExitCode::kRunner);
  return fd;
}

constexpr std::size_t kPortAt = offsetof(sockaddr_in, sin_port);  // … as in sockaddr_in6

bool have_same_port(const std::string& one, const std::string& other) {
  return one.compare(kPortAt, sizeof(in_port_t), other, kPortAt, sizeof(in_port_t)) == 0;
}

// Without the port: bytes of the address itself.
std::string host_of(const std::string& address) {
  const bool is_four = address.size() == sizeof(sockaddr_in);
  return is_four ? address.substr(offsetof(sockaddr_in, sin_addr), sizeof(in_addr))
                 : address.substr(offsetof(sockaddr_in6, sin6_addr), sizeof(in6_addr));
}

bool is_any(const std::string& host) { return host.find_first_not_of('\0') == std::string::npos; }

// Both have the port, and the same address, or one has any. Of two families: taken for the same.
bool is_in_the_way(const std::string& held, const std::string& wanted) {
  if (!have_same_port(held, wanted)) return false;
  const std::string host = host_of(held);
  const std::string other = host_of(wanted);
  return host.size() != other.size() || host == other || is_any(host) || is_any(other);
}

// In the network of the machine, others may connect to the port as well.
Fd accept_from(const Fd& listener, const std::string& wanted) {
  for (;;) {
    sockaddr_storage peer{};
    socklen_t size = sizeof(peer);
    Fd fd(accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
    if (!fd.is_open()) throw Error::from_errno("accept from", describe_address(wanted), errno, ExitCode::kRunner);
    const std::string name(reinterpret_cast<const char*>(&peer), size);
    if (have_same_port(name, wanted) && host_of(name) == host_of(wanted)) return fd;
  }
}

// The first end opens the connection, the other one is accepted.
std::pair<Fd, Fd> connect_ends(const TcpEnd& first, const TcpEnd& other) {
  const Fd listener = make_bound(other.family, other.address);
  if (listen(listener.get(), SOMAXCONN) != 0)
    throw Error::from_errno("listen on", describe_address(other.address), errno, ExitCode::kRunner);
  Fd client = make_bound(first.family, first.address);
  if (connect(client.get(), as_name(first.remote), static_cast<socklen_t>(first.remote.size())) != 0)
    throw Error::from_errno("connect to", describe_address(first.remote), errno, ExitCode::kRunner);
  Fd server = accept_from(listener, other.remote);
  return {std::move(client), std::move(server)};
}

// As /proc/net/tcp and tcp6 show it: words of the address as they lie in memory, and the port.
std::string parse_address(const std::string& shown) {
  const auto colon = shown.find(':');
  const auto port = htons(static_cast<std::uint16_t>(std::stoul(shown.substr(colon + 1), nullptr, 16)));
  const auto word = [&](std::size_t i) { return static_cast<std::uint32_t>(std::stoul(shown.substr(i * 8, 8), nullptr, 16)); };
  if (colon == 8) {
    const sockaddr_in address{AF_INET, port, {word(0)}, {}};
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  sockaddr_in6 address{AF_INET6, port, 0, {}, 0};
  for (std::size_t i = 0; i < 4; ++i) address.sin6_addr.s6_addr32[i] = word(i);
  return {reinterpret_cast<const char*>(&address), sizeof(address)};
}

}  // namespace

std::pair<Fd, Fd> connect_on_loopback(int family) {
  const Fd listener = make_bound(family, any_loopback(family));
  const std::string to = own_name(listener.get());
  if (listen(listener.get(), SOMAXCONN) != 0) throw Error::from_errno("listen on", describe_address(to), errno, ExitCode::kRunner);
  Fd client = make_bound(family, any_loopback(family));
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(to.data()), static_cast<socklen_t>(to.size())) != 0)
    throw Error::from_errno("connect to", describe_address(to), errno, ExitCode::kRunner);
  Fd server = accept_from(listener, own_name(client.get()));
  return {std::move(client), std::move(server)};
}

std::pair<Fd, Fd> connect_in_factory(const TcpEnd& own, const TcpEnd& far, bool leads_outside) {
  // The other machine's address is nobody's here. The end that is left needs no more than one that goes at once.
  if (!g_has_namespace && leads_outside) return connect_on_loopback(own.family);
  constexpr int kTries = 650;  // other old connections may hold a port, too
  for (int i = 0;; ++i) {
    try {
      return connect_ends(own, far);
    } catch (const Error& error) {
      if (g_has_namespace || i == kTries || (error.error() != EADDRINUSE && error.error() != EADDRNOTAVAIL)) throw;
    }
    end_old_connections(own.address);
    end_old_connections(far.address);
    if (i > 0) usleep(100'000);
  }
}

std::optional<std::vector<TcpEnd>> find_ended_connections(const std::string& address) {
  std::vector<TcpEnd> ended;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);  // titles
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, stage;
      fields >> number >> local >> remote >> stage;
      const std::string name = parse_address(local);
      if (!is_in_the_way(name, address)) continue;
      const bool has_ended = stage == "04" || stage == "05" || stage == "06" || stage == "09" || stage == "0B";
      if (!has_ended) return std::nullopt;
      ended.push_back({reinterpret_cast<const sockaddr*>(name.data())->sa_family, parse_address(remote), name});
    }
  }
  return ended;
}

void end_old_connections(const std::string& address) {
  const auto ended = find_ended_connections(address);
  for (const TcpEnd& end : ended.value_or(std::vector<TcpEnd>{})) {
    const Fd fd = make_stream(end.family);
    fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    if (bind(fd.get(), as_name(end.address), static_cast<socklen_t>(end.address.size())) == 0)
      connect(fd.get(), as_name(end.remote), static_cast<socklen_t>(end.remote.size()));
  }
}

void run_in_factory(const std::function<void()>& make) {
  std::exception_ptr problem;
  std::thread thread([&] {
    try {
      g_has_namespace = enter_namespace();
      make();
    } catch (...) {
      problem = std::current_exception();
    }
  });
  thread.join();
  if (problem) std::rethrow_exception(problem);
}

}  // namespace ckpt
