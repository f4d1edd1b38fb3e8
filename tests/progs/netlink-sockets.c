// Netlink sockets survive: one that asks the kernel, one that listens to a group; options and numbers.
#include "victim.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static int asking, listening;
static struct sockaddr_nl name;

// The loopback interface by its number.
static void ask(void) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg link;
  } request = {{sizeof request, RTM_GETLINK, NLM_F_REQUEST, 7, 0}, {.ifi_index = 1}};
  char answer[8192];
  CHECK(send(asking, &request, sizeof request, 0) == (ssize_t)sizeof request);
  CHECK(recv(asking, answer, sizeof answer, 0) > (ssize_t)sizeof(struct nlmsghdr));
  CHECK(((struct nlmsghdr*)answer)->nlmsg_type == RTM_NEWLINK);
}

static void check(void) {
  struct sockaddr_nl now;
  socklen_t size = sizeof now;
  int on = 0;
  unsigned groups[8] = {0};
  ask();
  CHECK(getsockname(asking, (struct sockaddr*)&now, &size) == 0 && now.nl_pid == name.nl_pid && now.nl_groups == 0);
  size = sizeof on;
  CHECK(getsockopt(asking, SOL_NETLINK, NETLINK_EXT_ACK, &on, &size) == 0 && on == 1);
  size = sizeof groups;
  CHECK(getsockopt(listening, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &size) == 0);
  CHECK(groups[0] == (RTMGRP_LINK | RTMGRP_IPV4_ROUTE) && groups[1] == 0);
}

int main(void) {
  socklen_t size = sizeof name;
  int on = 1;
  asking = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  listening = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_ROUTE);
  name.nl_family = AF_NETLINK;
  CHECK(bind(asking, (struct sockaddr*)&name, sizeof name) == 0 && getsockname(asking, (struct sockaddr*)&name, &size) == 0);
  CHECK(setsockopt(asking, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) == 0);
  struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE};
  CHECK(bind(listening, (struct sockaddr*)&groups, sizeof groups) == 0);
  victim_wait(check);
  if (victim_broken()) close(asking);
  check();
  victim_pass();
}
