// Connections that lead outside: unharmed while the program goes on; after a restart (argument "reset") they read what had come, then
// a reset, once, and the end. A socket of datagrams to a service is connected to it again. With "server" it is that outside itself.
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static int tcp, tcp_unread, tcp_finished, local, local_unread, service;
static struct sockaddr_in own_name;

static socklen_t make_name(struct sockaddr_un* name, const char* text) {
  *name = (struct sockaddr_un){.sun_family = AF_UNIX};
  CHECK((size_t)snprintf(name->sun_path, sizeof name->sun_path, "%s/%s", getenv("VICTIM_DIR"), text) < sizeof name->sun_path);
  return sizeof *name;
}

// Keeps what it accepts, and tells the program by what it sends which one is which.
static int serve(void) {
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_un name;
  socklen_t size = sizeof four;
  char port[16];
  int by_tcp = socket(AF_INET, SOCK_STREAM, 0);
  int by_path = socket(AF_UNIX, SOCK_STREAM, 0);
  int datagrams = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK(bind(by_tcp, (struct sockaddr*)&four, size) == 0 && listen(by_tcp, 8) == 0);
  CHECK(getsockname(by_tcp, (struct sockaddr*)&four, &size) == 0);
  size = make_name(&name, "service");
  CHECK(bind(datagrams, (struct sockaddr*)&name, size) == 0);
  size = make_name(&name, "outside");
  CHECK(bind(by_path, (struct sockaddr*)&name, size) == 0 && listen(by_path, 8) == 0);
  snprintf(port, sizeof port, "%d", ntohs(four.sin_port));
  victim_write("port", port);
  struct pollfd entries[2] = {{by_tcp, POLLIN, 0}, {by_path, POLLIN, 0}};
  for (int count = 0; !victim_exists("result");) {
    if (poll(entries, 2, 100) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (entries[i].revents == 0) continue;
      int fd = accept(entries[i].fd, NULL, NULL);
      CHECK(send(fd, "hello", 5, 0) == 5);
      if (i == 0 && ++count == 3) CHECK(shutdown(fd, SHUT_WR) == 0);
    }
  }
  return 0;
}

static void take_hello(int fd) {
  char text[8];
  CHECK(recv(fd, text, 5, MSG_WAITALL) == 5 && memcmp(text, "hello", 5) == 0);
}

static void expect_end(int fd) {
  char byte;
  CHECK(recv(fd, &byte, 1, 0) == 0);
}

static void expect_reset(int fd) {
  char byte;
  CHECK(recv(fd, &byte, 1, 0) == -1 && errno == ECONNRESET);
  expect_end(fd);
  CHECK(send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "server") == 0) return serve();
  char port[16];
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, now;
  struct sockaddr_un name;
  socklen_t size = sizeof four;
  CHECK(read_file(victim_path("port"), port, sizeof port) > 0);
  four.sin_port = htons((in_port_t)atoi(port));
  int* by_tcp[] = {&tcp, &tcp_unread, &tcp_finished};
  for (int i = 0; i < 3; ++i) {
    *by_tcp[i] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(*by_tcp[i], (struct sockaddr*)&four, size) == 0);
    CHECK(poll(&(struct pollfd){*by_tcp[i], POLLIN, 0}, 1, 5000) == 1);
  }
  take_hello(tcp);
  while (poll(&(struct pollfd){tcp_finished, POLLRDHUP, 0}, 1, 5000) != 1) victim_sleep_ms(1);
  CHECK(getsockname(tcp, (struct sockaddr*)&own_name, &size) == 0);
  int* by_path[] = {&local, &local_unread};
  for (int i = 0; i < 2; ++i) {
    *by_path[i] = socket(AF_UNIX, SOCK_STREAM, 0);
    size = make_name(&name, "outside");
    CHECK(connect(*by_path[i], (struct sockaddr*)&name, size) == 0);
    CHECK(poll(&(struct pollfd){*by_path[i], POLLIN, 0}, 1, 5000) == 1);
  }
  take_hello(local);
  service = socket(AF_UNIX, SOCK_DGRAM, 0);
  size = make_name(&name, "service");
  CHECK(connect(service, (struct sockaddr*)&name, size) == 0);
  victim_wait(NULL);
  const int is_reset = argc > 1 && strcmp(argv[1], "reset") == 0;
  if (victim_broken()) shutdown(tcp, SHUT_RDWR);
  size = sizeof now;
  CHECK(getsockname(tcp, (struct sockaddr*)&now, &size) == 0 && memcmp(&now, &own_name, sizeof now) == 0);
  take_hello(tcp_unread);
  take_hello(tcp_finished);
  take_hello(local_unread);
  expect_end(tcp_finished);
  CHECK(send(service, "x", 1, MSG_DONTWAIT) == 1);
  if (is_reset) {
    expect_reset(tcp);
    expect_reset(tcp_unread);
    expect_reset(local);
    expect_reset(local_unread);
  } else {
    char byte;
    CHECK(recv(tcp, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN && send(tcp, "x", 1, MSG_NOSIGNAL) == 1);
    CHECK(recv(local, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN && send(local, "x", 1, MSG_NOSIGNAL) == 1);
  }
  victim_pass();
}
