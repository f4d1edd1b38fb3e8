// Sockets of other protocols, as many as this user and this kernel may have: raw, ping, UDP-Lite, MPTCP that listens, netlink;
// options, names, and that they work. With the argument "unread", a datagram waits until the first check.
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

enum { kRaw, kPing, kLite, kListening, kIdle, kNetlink, kKinds, kOwnProtocol = 253, kUdpLite = 136, kMptcp = 262, kTtl = 77 };
static const int kFamilies[kKinds] = {AF_INET, AF_INET, AF_INET, AF_INET, AF_INET6, AF_NETLINK};
static const int kTypes[kKinds] = {SOCK_RAW, SOCK_DGRAM, SOCK_DGRAM, SOCK_STREAM, SOCK_STREAM, SOCK_RAW};
static const int kProtocols[kKinds] = {kOwnProtocol, IPPROTO_ICMP, kUdpLite, kMptcp, kMptcp, 2 /* NETLINK_USERSOCK */};
static int fds[kKinds];
static struct sockaddr_in names[kKinds];

static struct sockaddr_in name_of(int fd) {
  struct sockaddr_in name = {0};
  socklen_t size = sizeof name;
  CHECK(getsockname(fd, (struct sockaddr*)&name, &size) == 0 && size == sizeof name);
  return name;
}

static int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

// What it sends to itself comes back.
static void check_datagram(int kind) {
  struct icmphdr request = {.type = ICMP_ECHO, .un.echo.sequence = htons(7)};
  char answer[256];
  CHECK(sendto(fds[kind], &request, sizeof request, 0, (struct sockaddr*)&names[kind], sizeof names[kind]) == sizeof request);
  struct pollfd entry = {.fd = fds[kind], .events = POLLIN};
  CHECK(poll(&entry, 1, 10000) == 1);
  CHECK(recv(fds[kind], answer, sizeof answer, 0) >= 8);
  while (recv(fds[kind], answer, sizeof answer, MSG_DONTWAIT) > 0) {
  }
}

static void check_listener(void) {
  int client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&names[kListening], sizeof names[kListening]) == 0 && write(client, "x", 1) == 1);
  int server = accept(fds[kListening], NULL, NULL);
  char byte = 0;
  CHECK(server >= 0 && read(server, &byte, 1) == 1 && byte == 'x');
  close(server);
  close(client);
}

static void check(void) {
  for (int i = 0; i < kKinds; ++i) {
    if (fds[i] < 0) continue;
    CHECK(option(fds[i], SOL_SOCKET, SO_PROTOCOL) == kProtocols[i] && option(fds[i], SOL_SOCKET, SO_TYPE) == kTypes[i]);
    CHECK(fcntl(fds[i], F_GETFD) == FD_CLOEXEC && option(fds[i], SOL_SOCKET, SO_PRIORITY) == 3);
    if (kFamilies[i] != AF_INET) continue;
    struct sockaddr_in now = name_of(fds[i]);
    CHECK(memcmp(&now, &names[i], sizeof now) == 0);
    if (kTypes[i] == SOCK_STREAM) continue;
    CHECK(option(fds[i], IPPROTO_IP, IP_TTL) == kTtl);
    check_datagram(i);
  }
  if (fds[kRaw] >= 0) CHECK(option(fds[kRaw], IPPROTO_IP, IP_HDRINCL) == 0);
  if (fds[kListening] >= 0) check_listener();
  char byte;
  if (fds[kIdle] >= 0) CHECK(recv(fds[kIdle], &byte, 1, MSG_DONTWAIT) == -1 && errno == ENOTCONN);
}

static void make(int kind) {
  const int priority = 3, ttl = kTtl, on = 1;
  fds[kind] = socket(kFamilies[kind], kTypes[kind] | SOCK_CLOEXEC, kProtocols[kind]);
  if (fds[kind] < 0) {
    CHECK(errno == EPERM || errno == EACCES || errno == EPROTONOSUPPORT || errno == EAFNOSUPPORT || errno == ENOPROTOOPT);
    return;
  }
  CHECK(setsockopt(fds[kind], SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) == 0);
  if (kFamilies[kind] != AF_INET) return;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (kTypes[kind] != SOCK_STREAM) CHECK(setsockopt(fds[kind], IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) == 0);
  CHECK(setsockopt(fds[kind], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);  // connections that have ended hold the port
  CHECK(bind(fds[kind], (struct sockaddr*)&name, sizeof name) == 0);
  if (kind == kListening) CHECK(listen(fds[kind], 5) == 0);
  names[kind] = name_of(fds[kind]);
}

int main(int argc, char** argv) {
  for (int i = 0; i < kKinds; ++i) make(i);
  if (argc > 1 && strcmp(argv[1], "unread") == 0) {
    const int kind = fds[kRaw] >= 0 ? kRaw : kLite;
    if (fds[kind] < 0) return 77;
    CHECK(sendto(fds[kind], "datagram", 8, 0, (struct sockaddr*)&names[kind], sizeof names[kind]) == 8);
  }
  victim_wait(check);
  for (int i = 0; victim_broken() && i < kKinds; ++i) close(fds[i]);
  check();
  victim_pass();
}
