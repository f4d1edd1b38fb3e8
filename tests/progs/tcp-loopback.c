// TCP connections within the process survive: IPv4, IPv6 and IPv4 through IPv6; with what is in flight both ways, more than the
// receiver takes at once; two at one port; half closed, closed with unread data, reset; options, ports, a thread that waits for
// data, a listening socket with its queue.
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BIG (3UL * MIB)

static int listener, plain[2], second[2], six[2], mapped[2], half[2], ended, reset, told, awaited[2], full[2], waiting, idle, fresh;
static size_t full_size;
static struct sockaddr_in6 names[4][2];
static struct sockaddr_in6 listener_name;
static char* big;

static void name_of(int fd, struct sockaddr_in6* name, int (*get)(int, struct sockaddr*, socklen_t*)) {
  socklen_t size = sizeof *name;
  memset(name, 0, sizeof *name);
  CHECK(get(fd, (struct sockaddr*)name, &size) == 0);
}

// A connection through a listening socket of its own, or the given one; pair[0] has opened it.
static void connect_pair(int pair[2], int from, int to, const char* address, int keep) {
  struct sockaddr_in6 name = {.sin6_family = AF_INET6};
  struct sockaddr_in* four = (struct sockaddr_in*)&name;
  socklen_t size = to == AF_INET6 ? sizeof name : sizeof *four;
  int server = keep ? listener : socket(to, SOCK_STREAM, 0);
  if (!keep) {
    if (to == AF_INET6) {
      CHECK(inet_pton(AF_INET6, address, &name.sin6_addr) == 1);
    } else {
      four->sin_family = AF_INET;
      CHECK(inet_pton(AF_INET, address, &four->sin_addr) == 1);
    }
    CHECK(bind(server, (struct sockaddr*)&name, size) == 0 && listen(server, 1) == 0);
  }
  CHECK(getsockname(server, (struct sockaddr*)&name, &size) == 0);
  if (from == AF_INET && to == AF_INET6) {
    in_port_t port = name.sin6_port;
    memset(&name, 0, sizeof name);
    *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    size = sizeof *four;
  }
  pair[0] = socket(from, SOCK_STREAM, 0);
  CHECK(connect(pair[0], (struct sockaddr*)&name, size) == 0);
  pair[1] = accept(server, NULL, NULL);
  CHECK(pair[1] >= 0);
  if (!keep) close(server);
}

static void put(int fd, const void* data, size_t size) { CHECK(send(fd, data, size, 0) == (ssize_t)size); }

static void expect(int fd, const void* data, size_t size) {
  static char got[4096];
  for (size_t done = 0; done < size;) {
    size_t left = size - done < sizeof got ? size - done : sizeof got;
    struct pollfd entry = {fd, POLLIN, 0};
    if (poll(&entry, 1, 5000) != 1) victim_fail("descriptor %d: only %zu of %zu bytes", fd, done, size);
    ssize_t count = recv(fd, got, left, MSG_DONTWAIT);
    if (count <= 0) victim_fail("descriptor %d: %zd after %zu bytes (%s)", fd, count, done, strerror(errno));
    if (memcmp(got, (const char*)data + done, (size_t)count) != 0) victim_fail("descriptor %d: other bytes", fd);
    done += (size_t)count;
  }
}

static void expect_nothing(int fd) {
  char byte;
  CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

static void remember(int index, int fd) {
  name_of(fd, &names[index][0], getsockname);
  name_of(fd, &names[index][1], getpeername);
}

static void check_names(int index, int fd) {
  struct sockaddr_in6 now;
  name_of(fd, &now, getsockname);
  CHECK(memcmp(&now, &names[index][0], sizeof now) == 0);
  name_of(fd, &now, getpeername);
  CHECK(memcmp(&now, &names[index][1], sizeof now) == 0);
}

static void fill(void) {
  put(plain[0], "forth", 5);
  put(plain[1], "and back", 8);
  put(second[1], "second", 6);
  put(six[0], "six", 3);
  put(mapped[1], "mapped", 6);
}

static void drain(void) {
  expect(plain[1], "forth", 5);
  expect_nothing(plain[1]);
  expect(plain[0], "and back", 8);
  expect_nothing(plain[0]);
  expect(second[0], "second", 6);
  expect(six[1], "six", 3);
  expect(mapped[0], "mapped", 6);
  expect_nothing(mapped[0]);
}

static int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

static void check_state(void) {
  struct sockaddr_in6 now;
  check_names(0, plain[0]);
  check_names(1, plain[1]);
  check_names(2, six[0]);
  check_names(3, mapped[1]);
  CHECK(option(plain[0], IPPROTO_TCP, TCP_NODELAY) == 1 && option(plain[1], IPPROTO_TCP, TCP_NODELAY) == 0);
  CHECK(option(plain[1], SOL_SOCKET, SO_KEEPALIVE) == 1 && option(plain[1], IPPROTO_TCP, TCP_KEEPIDLE) == 77);
  CHECK(option(plain[0], SOL_SOCKET, SO_REUSEADDR) == 0 && option(listener, SOL_SOCKET, SO_REUSEADDR) == 0);
  CHECK(option(six[0], SOL_SOCKET, SO_RCVBUF) == 2 * 30000 && option(six[0], SOL_SOCKET, 72) == 2);
  CHECK(option(plain[0], SOL_SOCKET, 72) == 0);
  CHECK((fcntl(plain[0], F_GETFL) & O_NONBLOCK) != 0 && (fcntl(plain[1], F_GETFL) & O_NONBLOCK) == 0);
  name_of(listener, &now, getsockname);
  CHECK(memcmp(&now, &listener_name, sizeof now) == 0 && option(listener, SOL_SOCKET, SO_ACCEPTCONN) == 1);
  CHECK(option(fresh, SOL_SOCKET, SO_REUSEPORT) == 1 && poll(&(struct pollfd){fresh, POLLRDHUP, 0}, 1, 0) == 1);
}

static void check(void) {
  check_state();
  drain();
  fill();
}

static void check_once(void) {
  char byte;
  check_state();
  drain();
  expect(half[1], "last words", 10);
  CHECK(recv(half[1], &byte, 1, 0) == 0);
  CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  put(half[1], "still", 5);
  expect(half[0], "still", 5);
  expect(ended, "left behind", 11);
  CHECK(recv(ended, &byte, 1, 0) == 0);
  CHECK(recv(reset, &byte, 1, 0) == -1 && errno == ECONNRESET && recv(reset, &byte, 1, 0) == 0);
  CHECK(recv(told, &byte, 1, 0) == 0 && send(told, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  expect(full[1], big, full_size);
  expect_nothing(full[1]);
  int accepted = accept(listener, NULL, NULL);
  CHECK(accepted >= 0);
  put(waiting, "at last", 7);
  expect(accepted, "at last", 7);
}

static void* wait_body(void* argument) {
  char text[8];
  if (recv(awaited[0], text, sizeof text, 0) != 3) victim_fail("the waiting thread: %s", strerror(errno));
  return argument;
}

static void make_ends(void) {
  int pair[2];
  char byte;
  struct linger at_once = {1, 0};
  connect_pair(half, AF_INET, AF_INET, "127.0.0.1", 0);
  put(half[0], "last words", 10);
  CHECK(shutdown(half[0], SHUT_WR) == 0);
  connect_pair(pair, AF_INET, AF_INET, NULL, 1);  // beside one that waits to be accepted
  put(pair[1], "left behind", 11);
  close(pair[1]);
  ended = pair[0];
  for (int i = 0; i < 2; ++i) {
    connect_pair(pair, i == 0 ? AF_INET : AF_INET6, i == 0 ? AF_INET : AF_INET6, i == 0 ? "127.0.0.1" : "::1", 0);
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    close(pair[1]);
    if (i == 0) reset = pair[0];
    if (i == 1) told = pair[0];
  }
  CHECK(recv(told, &byte, 1, 0) == -1 && errno == ECONNRESET);
}

int main(void) {
  int on = 1, idle_time = 77, small = 30000;
  big = map_anonymous(BIG, PROT_READ | PROT_WRITE);
  pattern_fill(big, BIG, 9);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(listener, (struct sockaddr*)&any, sizeof any) == 0 && listen(listener, 3) == 0);
  name_of(listener, &listener_name, getsockname);
  connect_pair(plain, AF_INET, AF_INET, NULL, 1);
  connect_pair(second, AF_INET, AF_INET, NULL, 1);
  connect_pair(six, AF_INET6, AF_INET6, "::1", 0);
  connect_pair(mapped, AF_INET, AF_INET6, "::", 0);
  connect_pair(awaited, AF_INET, AF_INET, "127.0.0.1", 0);
  connect_pair(full, AF_INET, AF_INET, "127.0.0.1", 0);
  CHECK(setsockopt(plain[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  CHECK(setsockopt(plain[1], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
  CHECK(setsockopt(plain[1], IPPROTO_TCP, TCP_KEEPIDLE, &idle_time, sizeof idle_time) == 0);
  CHECK(setsockopt(six[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
  CHECK(fcntl(plain[0], F_SETFL, O_NONBLOCK) == 0);
  remember(0, plain[0]);
  remember(1, plain[1]);
  remember(2, six[0]);
  remember(3, mapped[1]);
  fill();
  make_ends();
  while (full_size < BIG) {
    ssize_t count = send(full[0], big + full_size, BIG - full_size, MSG_DONTWAIT);
    if (count < 0) break;
    full_size += (size_t)count;
  }
  idle = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(idle, (struct sockaddr*)&any, sizeof any) == 0);
  fresh = socket(AF_INET6, SOCK_STREAM, 0);
  CHECK(setsockopt(fresh, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0);
  waiting = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(waiting, (struct sockaddr*)&listener_name, sizeof(struct sockaddr_in)) == 0);
  pthread_t thread = start_thread(wait_body, NULL);
  victim_wait(check);
  if (victim_broken()) put(plain[0], "more", 4);
  check_once();
  put(awaited[1], "now", 3);
  join_thread(thread);
  victim_pass();
}
