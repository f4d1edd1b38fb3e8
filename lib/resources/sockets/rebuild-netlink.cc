// Netlink sockets: with the number and the groups they had.
#include <linux/netlink.h>

#include <cstring>

#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

namespace {

void join_groups(int fd, const format::SocketOption& groups) {
  for (int bit = 0; bit < static_cast<int>(sizeof(groups.value)) * 8; ++bit) {
    const int group = bit + 1;
    if ((groups.value[bit / 8] & 1U << bit % 8) == 0) continue;
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0)
      throw Error::from_errno("join", "netlink group " + std::to_string(group), errno, ExitCode::kRunner);
  }
}

}  // namespace

bool is_netlink_groups(const format::SocketOption& option) {
  return option.level == SOL_NETLINK && option.name == NETLINK_LIST_MEMBERSHIPS;
}

void Sockets::make_netlink() {
  for (Socket& socket : sockets_) {
    const auto& state = socket.state;
    if (state.family != AF_NETLINK) continue;
    socket.own = Fd(::socket(AF_NETLINK, static_cast<int>(state.type) | SOCK_CLOEXEC, static_cast<int>(state.protocol)));
    if (!socket.own.is_open()) throw Error::from_errno("create", "a netlink socket", errno, ExitCode::kRunner);
    set_early_options(socket.own.get(), socket);
    sockaddr_nl name{};
    std::memcpy(&name, state.local, sizeof(name));
    name.nl_groups = 0;  // by their numbers below
    // Its number is that of a process as a rule, and another one may have it here: then any will do, for nobody else knows it.
    const bool has_name = name.nl_pid != 0;
    if (has_name && bind(socket.own.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
      name.nl_pid = 0;
      if (bind(socket.own.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0)
        throw Error::from_errno("bind", "a netlink socket", errno, ExitCode::kRunner);
    }
    for (const format::SocketOption& option : socket.options) {
      if (is_netlink_groups(option)) join_groups(socket.own.get(), option);
    }
  }
}

}  // namespace ckpt
