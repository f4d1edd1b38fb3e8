// Sockets between processes of a job: TCP over IPv4, IPv6 and IPv6 with an IPv4 address, with more in flight in both directions
// than either has read; half-closed ones, of TCP and unix alike; UDP queues that others have filled; and one of the processes is
// stopped.
#include "members.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { kIpv4, kIpv6, kMapped, kUnix, kKinds, kBytes = 40000, kDatagrams = 5 };

// Of each kind: one that carries bytes both ways, and one whose first end has shut its writing side.
static int ends[kKinds][2][2];
static int udp[2][2];
static struct Member left, right, stopped;

static socklen_t address_of(int kind, struct sockaddr_storage* address, in_port_t port) {
  memset(address, 0, sizeof *address);
  if (kind == kIpv4) {
    *(struct sockaddr_in*)address = (struct sockaddr_in){AF_INET, port, {htonl(INADDR_LOOPBACK)}, {0}};
    return sizeof(struct sockaddr_in);
  }
  struct sockaddr_in6* six = (struct sockaddr_in6*)address;
  six->sin6_family = AF_INET6;
  six->sin6_port = port;
  CHECK(inet_pton(AF_INET6, kind == kIpv6 ? "::1" : "::ffff:127.0.0.1", &six->sin6_addr) == 1);
  return sizeof *six;
}

static void bind_any(int fd, int kind, struct sockaddr_storage* address, socklen_t* size) {
  *size = address_of(kind, address, 0);
  CHECK(bind(fd, (struct sockaddr*)address, *size) == 0 && getsockname(fd, (struct sockaddr*)address, size) == 0);
}

static void connect_pair(int kind, int pair[2]) {
  if (kind == kUnix) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    return;
  }
  struct sockaddr_storage address;
  socklen_t size;
  int listener = socket(kind == kIpv4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
  CHECK(listener >= 0);
  bind_any(listener, kind, &address, &size);
  CHECK(listen(listener, 4) == 0 && (pair[0] = socket(address.ss_family, SOCK_STREAM, 0)) >= 0);
  CHECK(connect(pair[0], (struct sockaddr*)&address, size) == 0 && (pair[1] = accept(listener, NULL, NULL)) >= 0);
  CHECK(close(listener) == 0);
}

static void connect_udp(int kind, int pair[2]) {
  struct sockaddr_storage address[2];
  socklen_t size[2];
  for (int i = 0; i < 2; ++i) {
    CHECK((pair[i] = socket(kind == kIpv4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0)) >= 0);
    bind_any(pair[i], kind, &address[i], &size[i]);
  }
  for (int i = 0; i < 2; ++i) CHECK(connect(pair[i], (struct sockaddr*)&address[1 - i], size[1 - i]) == 0);
}

static void send_bytes(int fd, uint64_t seed) {
  uint64_t bytes[kBytes / 8];
  pattern_fill(bytes, sizeof bytes, seed);
  CHECK(send(fd, bytes, sizeof bytes, MSG_DONTWAIT) == sizeof bytes);
}

static void receive_bytes(int fd, uint64_t seed) {
  uint64_t bytes[kBytes / 8];
  ssize_t got = recv(fd, bytes, sizeof bytes, MSG_WAITALL);
  if (got != sizeof bytes || !pattern_holds(bytes, sizeof bytes, seed))
    victim_fail("socket %d: %zd bytes of stream %lu", fd, got, seed);
}

static void expect_nothing(int fd) {
  char byte;
  if (recv(fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN) victim_fail("socket %d: there is more than was sent", fd);
}

// 's': sends on all; 'r': receives on all; 'e': there is nothing to receive; each from its side.
static long obey(int side, int order) {
  char text[64];
  for (int kind = 0; kind < kKinds; ++kind) {
    if (order == 's') send_bytes(ends[kind][0][side], (uint64_t)(kind * 2 + side));
    if (order == 'r') receive_bytes(ends[kind][0][side], (uint64_t)(kind * 2 + 1 - side));
  }
  for (int kind = 0; kind < kKinds && order == 'e'; ++kind) expect_nothing(ends[kind][0][side]);
  for (int i = 0; i < 2 * kDatagrams; ++i) {
    int fd = udp[i % 2][side], size = snprintf(text, sizeof text, "datagram %d", i) + 1;
    if (order == 's') CHECK(send(fd, text, (size_t)size, MSG_DONTWAIT) == size);
    if (order == 'e') expect_nothing(fd);
    if (order != 'r') continue;
    char got[64] = "";
    if (recv(fd, got, sizeof got, MSG_DONTWAIT) != size || strcmp(got, text) != 0) victim_fail("datagram '%s' is '%s'", text, got);
  }
  return 0;
}

static void expect_end(int fd, int kind) {
  char byte;
  ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
  if (got != 0) victim_fail("kind %d: half-closed, and %zd bytes come (%s)", kind, got, strerror(errno));
}

// The half-closed ones: the left one does not write any more, and reads what the right one goes on to write.
static long obey_left(int order) {
  if (strchr("sre", order) != NULL) return obey(0, order);
  for (int kind = 0; kind < kKinds; ++kind) {
    int fd = ends[kind][1][0];
    if (order == 'd') CHECK(shutdown(fd, SHUT_WR) == 0);
    if (order != 'h') continue;
    CHECK(send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    receive_bytes(fd, 100);
  }
  return 0;
}

static long obey_right(int order) {
  if (strchr("sre", order) != NULL) return obey(1, order);
  for (int kind = 0; kind < kKinds; ++kind) {
    int fd = ends[kind][1][1];
    if (order == 'w') send_bytes(fd, 100);
    if (order == 'h') expect_end(fd, kind);
  }
  return 0;
}

static long obey_stopped(int order) { return order; }

static char state_of(pid_t pid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  CHECK(read_file(path, text, sizeof text) > 0);
  return strrchr(text, ')')[2];
}

static void await_state(pid_t pid, char wanted) {
  for (int turn = 0; state_of(pid) != wanted; ++turn) {
    if (turn == 2000) victim_fail("process %d is in state %c, not in %c", (int)pid, state_of(pid), wanted);
    victim_sleep_ms(1);
  }
}

static void stop(void) {
  CHECK(kill(stopped.pid, SIGSTOP) == 0);
  await_state(stopped.pid, 'T');
  member_tell(&stopped, 'a');
}

static void check(void) {
  await_state(stopped.pid, 'T');
  if (member_is_through(&stopped)) victim_fail("who is stopped has answered");
  CHECK(kill(stopped.pid, SIGCONT) == 0 && member_answer(&stopped) == 'a');
  stop();
  member_do(&left, 'r');
  member_do(&right, 'r');
  member_do(&left, 'h');
  member_do(&right, 'h');
  member_do(&right, 'w');
  member_do(&left, 's');
  member_do(&right, 's');
}

int main(void) {
  for (int kind = 0; kind < kKinds; ++kind) {
    for (int i = 0; i < 2; ++i) connect_pair(kind, ends[kind][i]);
  }
  connect_udp(kIpv4, udp[0]);
  connect_udp(kIpv6, udp[1]);
  stopped = member_start(obey_stopped);
  left = member_start(obey_left);
  right = member_start(obey_right);
  // The first process has none of them.
  for (int fd = ends[0][0][0]; fd <= udp[1][1]; ++fd) close(fd);
  member_do(&left, 'd');
  member_do(&left, 's');
  member_do(&right, 's');
  member_do(&right, 'w');
  stop();
  victim_wait(check);
  if (victim_broken()) member_do(&left, 's');
  check();
  for (const char* order = "re"; *order != 0; ++order) {
    member_do(&left, *order);
    member_do(&right, *order);
  }
  CHECK(kill(stopped.pid, SIGCONT) == 0 && member_answer(&stopped) == 'a');
  member_end(&stopped);
  member_end(&left);
  member_end(&right);
  victim_pass();
}
