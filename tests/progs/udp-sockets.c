// UDP sockets survive: address and port, options, connected or not, datagrams that nobody has read, with their senders (of the same
// port at several addresses as well, and of the other family); a group.
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int plain, pair[2], six, grouped, both, second, only;  // the second has the port of pair[0], at 127.0.0.2
static struct sockaddr_in plain_name, pair_names[2];
static struct sockaddr_in6 six_name, both_name;
static in_port_t gone_port;

static struct sockaddr_in loopback(in_port_t port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void name_of(int fd, void* name, socklen_t size) {
  memset(name, 0, size);
  CHECK(getsockname(fd, name, &size) == 0);
}

static void expect(int fd, const char* data, in_port_t port) {
  char got[64];
  struct sockaddr_in6 from;
  socklen_t size = sizeof from;
  ssize_t count = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (struct sockaddr*)&from, &size);
  if (count != (ssize_t)strlen(data) || memcmp(got, data, (size_t)count) != 0) {
    victim_fail("descriptor %d: %zd bytes instead of '%s'", fd, count, data);
  }
  if (from.sin6_port != port) victim_fail("descriptor %d: '%s' from port %d, not %d", fd, data, ntohs(from.sin6_port), ntohs(port));
}

// An IPv4 datagram in an IPv6 socket.
static void expect_mapped(const char* data, const char* address) {
  char got[64], shown[INET6_ADDRSTRLEN];
  struct sockaddr_in6 from;
  socklen_t size = sizeof from;
  CHECK(recvfrom(both, got, sizeof got, MSG_DONTWAIT, (struct sockaddr*)&from, &size) == (ssize_t)strlen(data));
  CHECK(memcmp(got, data, strlen(data)) == 0 && from.sin6_port == pair_names[0].sin_port);
  CHECK(strcmp(inet_ntop(AF_INET6, &from.sin6_addr, shown, sizeof shown), address) == 0);
}

static void fill(void) {
  struct sockaddr_in to = loopback(plain_name.sin_port);
  CHECK(sendto(plain, "self", 4, 0, (struct sockaddr*)&to, sizeof to) == 4);
  CHECK(sendto(plain, "", 0, 0, (struct sockaddr*)&to, sizeof to) == 0);
  CHECK(send(pair[0], "one", 3, 0) == 3 && send(pair[0], "two", 3, 0) == 3 && send(pair[1], "back", 4, 0) == 4);
  CHECK(sendto(six, "six", 3, 0, (struct sockaddr*)&six_name, sizeof six_name) == 3);
  to = loopback(both_name.sin6_port);
  CHECK(sendto(pair[0], "first", 5, 0, (struct sockaddr*)&to, sizeof to) == 5);
  CHECK(sendto(second, "second", 6, 0, (struct sockaddr*)&to, sizeof to) == 6);
  CHECK(sendto(pair[0], "third", 5, 0, (struct sockaddr*)&to, sizeof to) == 5);
}

static void fill_from_gone(void) {
  struct sockaddr_in to = loopback(plain_name.sin_port), from = loopback(gone_port);
  int other = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK(bind(other, (struct sockaddr*)&from, sizeof from) == 0);
  if (gone_port == 0) name_of(other, &from, sizeof from);
  gone_port = from.sin_port;
  CHECK(sendto(other, "gone", 4, 0, (struct sockaddr*)&to, sizeof to) == 4);
  close(other);
}

static void drain(void) {
  expect(plain, "self", plain_name.sin_port);
  expect(plain, "", plain_name.sin_port);
  expect(plain, "gone", gone_port);
  expect(pair[1], "one", pair_names[0].sin_port);
  expect(pair[1], "two", pair_names[0].sin_port);
  expect(pair[0], "back", pair_names[1].sin_port);
  expect(six, "six", six_name.sin6_port);
  expect_mapped("first", "::ffff:127.0.0.1");
  expect_mapped("second", "::ffff:127.0.0.2");
  expect_mapped("third", "::ffff:127.0.0.1");
}

static int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

static void check_state(void) {
  struct sockaddr_in now;
  struct sockaddr_in6 now6;
  name_of(plain, &now, sizeof now);
  CHECK(memcmp(&now, &plain_name, sizeof now) == 0);
  for (int i = 0; i < 2; ++i) {
    name_of(pair[i], &now, sizeof now);
    CHECK(memcmp(&now, &pair_names[i], sizeof now) == 0);
    socklen_t size = sizeof now;
    CHECK(getpeername(pair[i], (struct sockaddr*)&now, &size) == 0 && memcmp(&now, &pair_names[1 - i], size) == 0);
  }
  name_of(six, &now6, sizeof now6);
  CHECK(memcmp(&now6, &six_name, sizeof now6) == 0);
  CHECK(option(plain, SOL_SOCKET, SO_BROADCAST) == 1 && option(plain, IPPROTO_IP, IP_TTL) == 33);
  CHECK(option(plain, IPPROTO_IP, IP_PKTINFO) == 1 && option(six, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
  CHECK(option(six, IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1 && option(grouped, SOL_SOCKET, SO_REUSEPORT) == 1);
  CHECK(option(grouped, IPPROTO_IP, IP_MULTICAST_TTL) == 3 && option(grouped, IPPROTO_IP, IP_MULTICAST_LOOP) == 1);
  struct ip_mreqn group = {.imr_multiaddr.s_addr = inet_addr("239.1.2.3"), .imr_address.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(setsockopt(grouped, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == -1 && errno == EADDRINUSE);
}

static void check(void) {
  check_state();
  drain();
  fill();
  fill_from_gone();
}

static void set(int fd, int level, int name, int value) { CHECK(setsockopt(fd, level, name, &value, sizeof value) == 0); }

int main(void) {
  struct sockaddr_in any = {.sin_family = AF_INET}, here = loopback(0);
  six_name = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  plain = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK(bind(plain, (struct sockaddr*)&any, sizeof any) == 0);
  name_of(plain, &plain_name, sizeof plain_name);
  for (int i = 0; i < 2; ++i) {
    pair[i] = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(pair[i], (struct sockaddr*)&here, sizeof here) == 0);
    name_of(pair[i], &pair_names[i], sizeof pair_names[i]);
  }
  here = pair_names[0];
  here.sin_addr.s_addr = inet_addr("127.0.0.2");
  second = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK(bind(second, (struct sockaddr*)&here, sizeof here) == 0);
  both = socket(AF_INET6, SOCK_DGRAM, 0);
  both_name = (struct sockaddr_in6){.sin6_family = AF_INET6};
  CHECK(bind(both, (struct sockaddr*)&both_name, sizeof both_name) == 0);
  name_of(both, &both_name, sizeof both_name);
  for (int i = 0; i < 2; ++i) CHECK(connect(pair[i], (struct sockaddr*)&pair_names[1 - i], sizeof here) == 0);
  six = socket(AF_INET6, SOCK_DGRAM, 0);
  set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  CHECK(bind(six, (struct sockaddr*)&six_name, sizeof six_name) == 0);
  name_of(six, &six_name, sizeof six_name);
  set(plain, SOL_SOCKET, SO_BROADCAST, 1);
  set(plain, IPPROTO_IP, IP_TTL, 33);
  set(plain, IPPROTO_IP, IP_PKTINFO, 1);
  set(six, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  grouped = socket(AF_INET, SOCK_DGRAM, 0);
  set(grouped, SOL_SOCKET, SO_REUSEPORT, 1);
  set(grouped, IPPROTO_IP, IP_MULTICAST_TTL, 3);
  struct ip_mreqn group = {.imr_multiaddr.s_addr = inet_addr("239.1.2.3"), .imr_address.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(setsockopt(grouped, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == 0);
  fill();
  fill_from_gone();
  // It has the port of the one that is gone, and cannot have sent what that has.
  struct sockaddr_in6 everywhere = {.sin6_family = AF_INET6, .sin6_port = gone_port};
  only = socket(AF_INET6, SOCK_DGRAM, 0);
  set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  CHECK(bind(only, (struct sockaddr*)&everywhere, sizeof everywhere) == 0);
  victim_wait(check);
  if (victim_broken()) CHECK(send(pair[0], "three", 5, 0) == 5);
  check_state();
  drain();
  char byte;
  CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  victim_pass();
}
