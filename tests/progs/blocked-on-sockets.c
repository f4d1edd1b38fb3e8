// Threads that wait on sockets go on over a checkpoint: in accept, in recv with and without a time limit and for all of it, in
// recvfrom, and in a send that is larger than what goes in.
#include "victim.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define LARGE (12UL * MIB)

static int listener, plain[2], limited[2], whole[2], unix_whole[2], datagram, tcp_send[2], unix_send[2];
static struct sockaddr_in listener_name, datagram_name;
static char* large;

static void connect_pair(int pair[2]) {
  pair[0] = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(pair[0], (struct sockaddr*)&listener_name, sizeof listener_name) == 0);
  pair[1] = accept(listener, NULL, NULL);
  CHECK(pair[1] >= 0);
}

static void bind_to_loopback(int fd, struct sockaddr_in* name) {
  socklen_t size = sizeof *name;
  *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(bind(fd, (struct sockaddr*)name, size) == 0 && getsockname(fd, (struct sockaddr*)name, &size) == 0);
}

static void expect_count(const char* what, ssize_t count, ssize_t wanted) {
  if (count != wanted) victim_fail("%s: %zd instead of %zd (%s)", what, count, wanted, strerror(errno));
}

static void* accept_body(void* argument) {
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) victim_fail("accept: %s", strerror(errno));
  close(fd);
  return argument;
}

static void* receive_body(void* argument) {
  char text[16];
  expect_count("recv", recv(*(int*)argument, text, sizeof text, 0), 4);
  return NULL;
}

static void* whole_body(void* argument) {
  char text[16];
  expect_count("recv of all", recv(*(int*)argument, text, 8, MSG_WAITALL), 8);
  if (memcmp(text, "frontend", 8) != 0) victim_fail("recv of all: other bytes");
  return NULL;
}

static void* datagram_body(void* argument) {
  char text[16];
  struct sockaddr_in from;
  socklen_t size = sizeof from;
  expect_count("recvfrom", recvfrom(datagram, text, sizeof text, 0, (struct sockaddr*)&from, &size), 4);
  return argument;
}

static void* send_body(void* argument) {
  expect_count("send", send(*(int*)argument, large, LARGE, 0), (ssize_t)LARGE);
  return NULL;
}

static void drain(int fd) {
  static char got[MIB];
  for (size_t done = 0; done < LARGE;) {
    ssize_t count = recv(fd, got, sizeof got, 0);
    if (count <= 0 || memcmp(got, large + done, (size_t)count) != 0) victim_fail("after %zu bytes: %zd, or others", done, count);
    done += (size_t)count;
  }
}

int main(void) {
  struct timeval limit = {1000, 0};
  large = map_anonymous(LARGE, PROT_READ | PROT_WRITE);
  pattern_fill(large, LARGE, 3);
  int on = 1;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
  bind_to_loopback(listener, &listener_name);
  CHECK(listen(listener, 8) == 0);
  connect_pair(plain);
  connect_pair(limited);
  connect_pair(whole);
  connect_pair(tcp_send);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_whole) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, unix_send) == 0);
  datagram = socket(AF_INET, SOCK_DGRAM, 0);
  bind_to_loopback(datagram, &datagram_name);
  CHECK(setsockopt(limited[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  CHECK(send(whole[0], "front", 5, 0) == 5 && send(unix_whole[0], "front", 5, 0) == 5);
  pthread_t threads[] = {
      start_thread(accept_body, NULL),           start_thread(receive_body, &plain[1]), start_thread(receive_body, &limited[1]),
      start_thread(whole_body, &whole[1]),       start_thread(datagram_body, NULL),     start_thread(send_body, &tcp_send[0]),
      start_thread(whole_body, &unix_whole[1]), start_thread(send_body, &unix_send[0]),
  };
  victim_sleep_ms(100);
  victim_wait(NULL);
  if (victim_broken()) CHECK(send(plain[0], "x", 1, 0) == 1);
  int other = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(other, (struct sockaddr*)&listener_name, sizeof listener_name) == 0);
  CHECK(send(plain[0], "data", 4, 0) == 4 && send(limited[0], "data", 4, 0) == 4);
  CHECK(send(whole[0], "end", 3, 0) == 3 && send(unix_whole[0], "end", 3, 0) == 3);
  CHECK(sendto(datagram, "data", 4, 0, (struct sockaddr*)&datagram_name, sizeof datagram_name) == 4);
  drain(tcp_send[1]);
  drain(unix_send[1]);
  for (size_t i = 0; i < sizeof threads / sizeof threads[0]; ++i) join_thread(threads[i]);
  victim_pass();
}
