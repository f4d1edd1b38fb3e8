// The socket factory: a private network namespace in which every address is local. TCP connections with any addresses are made
// there, without a clash of ports and without waiting for old ones (TIME_WAIT), and live on in the program when nobody else is left
// in it.
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <exception>
#include <thread>

#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

namespace {

using format::SocketState;

constexpr int kIpv6FreeBind = 78;  // IPV6_FREEBIND, Linux 4.15

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

void enter_namespace() {
  if (unshare(CLONE_NEWNET) != 0) throw Error::from_errno("create", "a network namespace", errno, ExitCode::kRunner);
  raise_loopback();
  make_all_local(AF_INET);
  make_all_local(AF_INET6);
}

Fd make_bound(int family, const std::string& address) {
  Fd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  const int off = 0;
  if (!fd.is_open()) throw Error::from_errno("create", "a TCP socket", errno, ExitCode::kRunner);
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(fd.get(), IPPROTO_IPV6, kIpv6FreeBind, &on, sizeof(on));
  }
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(address.data()), static_cast<socklen_t>(address.size())) != 0)
    throw Error::from_errno("bind to", describe_address(address), errno, ExitCode::kRunner);
  return fd;
}

}  // namespace

// The end with `own` opens the connection, the other one is accepted.
std::pair<Fd, Fd> connect_in_factory(const TcpEnd& own, const TcpEnd& far) {
  const Fd listener = make_bound(far.family, far.address);
  if (listen(listener.get(), 1) != 0) throw Error::from_errno("listen on", describe_address(far.address), errno, ExitCode::kRunner);
  Fd client = make_bound(own.family, own.address);
  const std::string& to = own.remote;
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(to.data()), static_cast<socklen_t>(to.size())) != 0)
    throw Error::from_errno("connect to", describe_address(to), errno, ExitCode::kRunner);
  Fd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!server.is_open()) throw Error::from_errno("accept on", describe_address(far.address), errno, ExitCode::kRunner);
  return {std::move(client), std::move(server)};
}

void run_in_factory(const std::function<void()>& make) {
  std::exception_ptr problem;
  std::thread thread([&] {
    try {
      enter_namespace();
      make();
    } catch (...) {
      problem = std::current_exception();
    }
  });
  thread.join();
  if (problem) std::rethrow_exception(problem);
}

}  // namespace ckpt
