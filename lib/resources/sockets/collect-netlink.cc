// Netlink sockets that ask the kernel, or listen to what it tells: made again when nothing waits in them.
#include <asm/poll.h>
#include <linux/netlink.h>

#include "lib/resources/sockets/collect.h"

namespace ckpt {

namespace {

using format::SocketOption;
using format::SocketState;

constexpr int kSolNetlink = 270;

// With others (audit, netfilter, connector) the kernel keeps what a socket has asked for, and does not tell it.
bool is_known(std::uint32_t protocol) {
  constexpr std::uint32_t kKnown[] = {NETLINK_ROUTE, NETLINK_SOCK_DIAG,  NETLINK_KOBJECT_UEVENT, NETLINK_GENERIC,
                                      NETLINK_XFRM,  NETLINK_FIB_LOOKUP, NETLINK_SELINUX,        NETLINK_CRYPTO,
                                      NETLINK_RDMA,  NETLINK_USERSOCK};
  for (const std::uint32_t known : kKnown) {
    if (protocol == known) return true;
  }
  return false;
}

}  // namespace

bool collect_netlink_socket(Collector* collector, const Descriptor& descriptor, const SocketState& state) {
  if (!is_known(state.protocol)) {
    refuse_descriptor(collector, descriptor).add("a netlink socket of this protocol can't be saved; close it and try again");
    return false;
  }
  if ((poll_now(descriptor.fd, POLLIN) & (POLLIN | POLLERR)) == 0) return true;
  refuse_descriptor(collector, descriptor).add("a netlink socket with unread messages can't be saved; try again later");
  return collector->postpone();
}

bool collect_netlink_groups(Collector* collector, int fd, const SocketState& facts, Buffer* state) {
  if (facts.family != kAfNetlink) return true;
  std::uint8_t groups[512]{};
  SocketOption option{kSolNetlink, NETLINK_LIST_MEMBERSHIPS, sizeof(option.value), {}};
  unsigned size = sizeof(groups);
  if (sys::call(__NR_getsockopt, fd, option.level, option.name, groups, &size).failed()) return true;
  for (std::size_t i = sizeof(option.value); i < sizeof(groups); ++i) {
    if (groups[i] != 0)
      return refuse_socket(collector, fd, facts, "a netlink group of so high a number can't be saved; leave it and try again");
  }
  memcpy(option.value, groups, sizeof(option.value));
  state->add(&option, sizeof(option));
  return true;
}

}  // namespace ckpt
