// Pairs of unix sockets survive: streams, datagrams, packets, with what is in them both ways, message by message; half closed; one
// end closed with unread data; reset; options; a thread that waits for data.
#include "victim.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BIG (100 * 1024)

static int stream[2], stream_copy, datagram[2], packet[2], half[2], closed, reset, quiet, awaited[2], full[2];
static size_t full_size;
static char big[BIG];

static void put(int fd, const void* data, size_t size) { CHECK(send(fd, data, size, 0) == (ssize_t)size); }

static void expect(int fd, const void* data, size_t size, int flags) {
  static char got[BIG + 1];
  ssize_t count = recv(fd, got, sizeof got, flags | MSG_DONTWAIT);
  if (count != (ssize_t)size) victim_fail("descriptor %d: %zd bytes instead of %zu (%s)", fd, count, size, strerror(errno));
  if (memcmp(got, data, size) != 0) victim_fail("descriptor %d: other bytes", fd);
}

static void expect_nothing(int fd) {
  char byte;
  CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

static int option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0);
  return value;
}

static void set(int fd, int name, int value) { CHECK(setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0); }

static void fill(void) {
  put(stream[0], big, BIG);
  put(stream[1], "back", 4);
  put(datagram[0], "one", 3);
  put(datagram[0], big, 50000);
  put(datagram[0], "three", 5);
  put(datagram[1], "answer", 6);
  put(packet[0], "packet", 6);
  put(packet[0], "another", 7);
}

static void drain(void) {
  expect(stream_copy, big, BIG, 0);
  expect_nothing(stream[1]);
  expect(stream[0], "back", 4, 0);
  expect(datagram[1], "one", 3, 0);
  expect(datagram[1], big, 50000, 0);
  expect(datagram[1], "three", 5, 0);
  expect_nothing(datagram[1]);
  expect(datagram[0], "answer", 6, 0);
  expect(packet[1], "packet", 6, 0);
  expect(packet[1], "another", 7, 0);
  expect_nothing(packet[1]);
}

static void check_options(void) {
  struct timeval time;
  struct linger linger;
  struct ucred peer;
  socklen_t size = sizeof time;
  CHECK(getsockopt(stream[0], SOL_SOCKET, SO_RCVTIMEO, &time, &size) == 0 && time.tv_sec == 12 && time.tv_usec == 500000);
  size = sizeof linger;
  CHECK(getsockopt(stream[1], SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff == 1 && linger.l_linger == 7);
  CHECK(option(stream[0], SO_SNDBUF) == 2 * 150000 && option(stream[1], SO_PASSCRED) == 0);
  CHECK(option(packet[0], SO_RCVBUF) == 2 * 5000 && option(packet[0], SO_SNDBUF) == option(packet[1], SO_SNDBUF));
  CHECK(option(datagram[1], SO_PEEK_OFF) == 3 && option(quiet, SO_PASSCRED) == 1);
  size = sizeof peer;
  CHECK(getsockopt(stream[0], SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getpid() && peer.uid == getuid());
  CHECK((fcntl(stream[0], F_GETFL) & O_NONBLOCK) == 0 && (fcntl(packet[1], F_GETFL) & O_NONBLOCK) != 0);
  CHECK(fcntl(stream[0], F_GETFD) == 0 && fcntl(packet[1], F_GETFD) == FD_CLOEXEC && fcntl(stream_copy, F_GETFD) == FD_CLOEXEC);
}

static void check(void) {
  check_options();
  drain();
  set(datagram[1], SO_PEEK_OFF, 3);  // reading has moved it
  fill();
  char byte;
  CHECK(recv(half[0], &byte, 1, 0) == -1 && errno == EAGAIN);
  CHECK(send(half[1], "x", 1, MSG_NOSIGNAL) == 1 && recv(half[0], &byte, 1, 0) == 1);
}

// The ends: what can be checked once only.
static void check_ends(void) {
  char byte;
  drain();
  expect(half[1], "last words", 10, 0);
  CHECK(recv(half[1], &byte, 1, 0) == 0);
  CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  expect(closed, "left behind", 11, 0);
  CHECK(recv(closed, &byte, 1, 0) == 0 && recv(closed, &byte, 1, 0) == 0);
  CHECK(send(closed, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  CHECK(recv(reset, &byte, 1, 0) == -1 && errno == ECONNRESET);
  CHECK(recv(reset, &byte, 1, 0) == 0);
  CHECK(recv(quiet, &byte, 1, 0) == 0);
  int left = 0;
  CHECK(ioctl(full[1], FIONREAD, &left) == 0 && (size_t)left == full_size);
  for (size_t i = 0; i < full_size; i += 7) expect(full[1], "seventh", 7, 0);
}

static void* wait_body(void* argument) {
  char text[8];
  if (recv(awaited[0], text, sizeof text, 0) != 3 || memcmp(text, "now", 3) != 0) victim_fail("the waiting thread: %s", strerror(errno));
  return argument;
}

// As much as goes in, in small pieces.
static void make_full(void) {
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, full) == 0);
  while (send(full[0], "seventh", 7, MSG_DONTWAIT) == 7) full_size += 7;
  CHECK(errno == EAGAIN && full_size > 0);
}

// Further pairs, each with a byte of its own in it.
enum { kMostPairs = 100 };
static int many[kMostPairs][2], count;

static void make_many(void) {
  for (int i = 0; i < count; ++i) {
    char byte = (char)i;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, many[i]) == 0);
    put(many[i][i % 2], &byte, 1);
  }
}

static void check_many(void) {
  for (int i = 0; i < count; ++i) {
    char byte = (char)i;
    expect(many[i][(i + 1) % 2], &byte, 1, 0);
    put(many[i][i % 2], &byte, 1);
    expect_nothing(many[i][i % 2]);
  }
}

int main(int argc, char** argv) {
  int pair[2];
  count = argc > 1 ? atoi(argv[1]) : 0;
  CHECK(count <= kMostPairs);
  make_many();
  struct timeval time = {12, 500000};
  struct linger linger = {1, 7};
  pattern_fill(big, BIG, 5);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
  stream_copy = fcntl(stream[1], F_DUPFD_CLOEXEC, 100);
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, packet) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, half) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, awaited) == 0);
  CHECK(setsockopt(stream[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
  CHECK(setsockopt(stream[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
  set(stream[0], SO_SNDBUF, 150000);
  set(packet[0], SO_RCVBUF, 5000);
  fill();
  put(half[0], "last words", 10);
  CHECK(shutdown(half[0], SHUT_WR) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  put(pair[0], "left behind", 11);
  close(pair[0]);
  closed = pair[1];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  put(pair[1], "unread", 6);
  close(pair[0]);
  reset = pair[1];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
  close(pair[0]);
  quiet = pair[1];
  set(quiet, SO_PASSCRED, 1);
  set(datagram[1], SO_PEEK_OFF, 3);
  make_full();
  pthread_t thread = start_thread(wait_body, NULL);
  victim_wait(check);
  if (victim_broken()) put(datagram[0], "more", 4);
  check_options();
  check_ends();
  check_many();
  put(awaited[1], "now", 3);
  join_thread(thread);
  victim_pass();
}
