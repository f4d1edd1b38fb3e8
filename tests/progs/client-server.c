// A server and a client, two processes, that exchange numbered messages all the time: over TCP (IPv4, IPv6, IPv4 through IPv6), UDP
// and a named unix socket. Beside that connections stand still: one with more in it than the receiver takes at once, one half
// closed with unread data, and clients that nobody has accepted yet.
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { kLive = 5, kUdp = 3, kUnix = 4, kWindow = 32, kWords = 64 };

// When the harness kills one process after the other, the last one must not have the time to complain.
#define FAIL_LATER(...)       \
  do {                        \
    victim_sleep_ms(1000);    \
    victim_fail(__VA_ARGS__); \
  } while (0)

static struct Shared {
  volatile uint64_t rounds[kLive];  // replies that the client has seen
  volatile size_t stuffed;          // bytes
  volatile int is_prepared, must_stop, is_broken;
} * shared;

static int listeners[kLive], server[kLive], client[kLive];
static int full[2], half[2], waiting_tcp, waiting_unix;  // [0] is the client's

static socklen_t name_of(int kind, struct sockaddr_storage* name) {
  memset(name, 0, sizeof *name);
  if (kind == kUnix) {
    struct sockaddr_un* local = (struct sockaddr_un*)name;
    local->sun_family = AF_UNIX;
    CHECK(strlen(victim_path("socket")) < sizeof local->sun_path);
    strcpy(local->sun_path, victim_path("socket"));
    return sizeof *local;
  }
  if (kind == 0 || kind == kUdp) {
    struct sockaddr_in* four = (struct sockaddr_in*)name;
    four->sin_family = AF_INET;
    four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof *four;
  }
  struct sockaddr_in6* six = (struct sockaddr_in6*)name;
  six->sin6_family = AF_INET6;
  if (kind == 1) six->sin6_addr = in6addr_loopback;
  return sizeof *six;
}

static void open_listener(int kind) {
  struct sockaddr_storage name;
  socklen_t size = name_of(kind, &name);
  listeners[kind] = socket(name.ss_family, kind == kUdp ? SOCK_DGRAM : SOCK_STREAM, 0);
  const int on = 1;
  if (kind < kUdp) CHECK(setsockopt(listeners[kind], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
  CHECK(bind(listeners[kind], (struct sockaddr*)&name, size) == 0);
  if (kind != kUdp) CHECK(listen(listeners[kind], 8) == 0);
}

static int connect_to(int kind) {
  struct sockaddr_storage name;
  socklen_t size = sizeof name;
  CHECK(getsockname(listeners[kind], (struct sockaddr*)&name, &size) == 0);
  if (kind == 2) {  // through IPv6: the client speaks IPv4
    in_port_t port = ((struct sockaddr_in6*)&name)->sin6_port;
    size = name_of(0, &name);
    ((struct sockaddr_in*)&name)->sin_port = port;
  }
  int fd = socket(name.ss_family, kind == kUdp ? SOCK_DGRAM : SOCK_STREAM, 0);
  CHECK(fd >= 0 && connect(fd, (struct sockaddr*)&name, size) == 0);
  return fd;
}

// False: the other end is closed.
static int get_message(int kind, int fd, uint64_t number, uint64_t seed) {
  uint64_t message[kWords];
  struct sockaddr_in from;
  socklen_t size = sizeof from;
  if (kind == kUdp) {
    ssize_t count = recvfrom(fd, message, sizeof message, 0, (struct sockaddr*)&from, &size);
    if (count == 0) return 0;
    if (count != sizeof message) FAIL_LATER("a datagram of %zd bytes", count);
    if (server[kUdp] == fd && number == 0) CHECK(connect(fd, (struct sockaddr*)&from, size) == 0);
  } else {
    ssize_t count = recv(fd, message, sizeof message, MSG_WAITALL);
    if (count == 0) return 0;
    if (count != sizeof message)
      FAIL_LATER("connection %d: %zd bytes of message %llu (%s)", kind, count, (unsigned long long)number, strerror(errno));
  }
  if (message[0] != number || !pattern_holds(message + 1, sizeof message - 8, number + seed))
    FAIL_LATER("connection %d: message %llu instead of %llu", kind, (unsigned long long)message[0], (unsigned long long)number);
  return 1;
}

static void put_message(int kind, int fd, uint64_t number, uint64_t seed) {
  uint64_t message[kWords] = {number};
  pattern_fill(message + 1, sizeof message - 8, number + seed);
  if (seed == 0 && shared->is_broken) ++message[5];
  if (send(fd, message, sizeof message, MSG_NOSIGNAL) != sizeof message && !shared->must_stop)
    FAIL_LATER("connection %d: message %llu can't be sent (%s)", kind, (unsigned long long)number, strerror(errno));
}

static void* serve(void* argument) {
  int kind = (int)(intptr_t)argument;
  for (uint64_t number = 0; get_message(kind, server[kind], number, 0); ++number) put_message(kind, server[kind], number, 7);
  return NULL;
}

// Several messages are under way at a time.
static void* ask(void* argument) {
  int kind = (int)(intptr_t)argument;
  uint64_t sent = 0;
  for (uint64_t number = 0; !shared->must_stop || number < sent; ++number) {
    while (!shared->must_stop && sent - number < (kind == kUdp ? 1 : kWindow)) put_message(kind, client[kind], sent++, 0);
    if (number == sent) break;
    if (!get_message(kind, client[kind], number, 7)) FAIL_LATER("connection %d is closed", kind);
    shared->rounds[kind] = number + 1;
  }
  if (kind == kUdp) send(client[kind], "", 0, 0);
  shutdown(client[kind], SHUT_WR);
  return NULL;
}

static void run_threads(void* (*body)(void*), pthread_t threads[kLive]) {
  for (intptr_t i = 0; i < kLive; ++i) threads[i] = start_thread(body, (void*)i);
}

static char byte_at(size_t at) { return (char)pattern_word(9, at); }

static void stuff(void) {
  size_t at = 0;
  for (;; ++at) {
    char byte[512];
    for (size_t i = 0; i < sizeof byte; ++i) byte[i] = byte_at(at + i);
    ssize_t count = send(full[0], byte, sizeof byte, MSG_DONTWAIT);
    if (count < 0) break;
    at += (size_t)count - 1;
  }
  shared->stuffed = at;
}

static void run_client(void) {
  pthread_t threads[kLive];
  full[0] = connect_to(0);
  half[0] = connect_to(0);
  for (int i = 0; i < kLive; ++i) client[i] = connect_to(i);
  while (shared->is_prepared < 1) victim_sleep_ms(1);
  waiting_tcp = connect_to(1);
  waiting_unix = connect_to(kUnix);
  CHECK(send(half[0], "last words", 10, 0) == 10 && shutdown(half[0], SHUT_WR) == 0);
  stuff();
  shared->is_prepared = 2;
  run_threads(ask, threads);
  for (int i = 0; i < kLive; ++i) join_thread(threads[i]);
  char text[8];
  if (recv(half[0], text, sizeof text, 0) != 3 || memcmp(text, "bye", 3) != 0) victim_fail("the half closed one has no answer");
  if (recv(waiting_tcp, text, sizeof text, 0) != 4 || recv(waiting_unix, text, sizeof text, 0) != 4)
    victim_fail("who had waited was not served");
  exit(0);
}

static void verify(void) {
  uint64_t before[kLive];
  for (int i = 0; i < kLive; ++i) before[i] = shared->rounds[i];
  for (int i = 0; i < kLive; ++i) {
    for (int turn = 0; shared->rounds[i] < before[i] + 50; ++turn) {
      if (turn == 2000) victim_fail("connection %d stands still", i);
      victim_sleep_ms(5);
    }
  }
}

static void end_still_ones(void) {
  char text[512];
  CHECK(recv(half[1], text, sizeof text, MSG_WAITALL) == 10 && memcmp(text, "last words", 10) == 0);
  CHECK(send(half[1], "bye", 3, 0) == 3);
  for (size_t at = 0; at < shared->stuffed;) {
    ssize_t count = recv(full[1], text, sizeof text, 0);
    if (count <= 0) victim_fail("only %zu of %zu bytes were under way", at, shared->stuffed);
    for (ssize_t i = 0; i < count; ++i, ++at) {
      if (text[i] != byte_at(at)) victim_fail("other bytes were under way");
    }
  }
  int late[2] = {accept(listeners[1], NULL, NULL), accept(listeners[kUnix], NULL, NULL)};
  for (int i = 0; i < 2; ++i) CHECK(late[i] >= 0 && send(late[i], "late", 4, 0) == 4);
}

int main(void) {
  pthread_t threads[kLive];
  shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  for (int i = 0; i < kLive; ++i) open_listener(i);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) run_client();
  full[1] = accept(listeners[0], NULL, NULL);
  half[1] = accept(listeners[0], NULL, NULL);
  for (int i = 0; i < kLive; ++i) server[i] = i == kUdp ? listeners[i] : accept(listeners[i], NULL, NULL);
  shared->is_prepared = 1;
  while (shared->is_prepared < 2) victim_sleep_ms(1);
  run_threads(serve, threads);
  victim_wait(verify);
  if (victim_broken()) shared->is_broken = 1;
  verify();
  shared->must_stop = 1;
  end_still_ones();
  for (int i = 0; i < kLive; ++i) join_thread(threads[i]);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (status != 0) victim_fail("the client ended with %#x", status);
  victim_pass();
}
