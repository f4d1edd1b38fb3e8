// A listening unix socket whose name has gone over to another: connections that wait at the old one, half closed ones among them,
// those that it has accepted, and those at the new one stay where they are, in their order.
#include "victim.h"

#include <sys/socket.h>
#include <sys/un.h>

enum { kWaiting = 3 };
static int older, newer, waiting[kWaiting], at_newer, client, accepted;

static struct sockaddr_un name = {.sun_family = AF_UNIX};

static int make_listener(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  unlink(name.sun_path);
  CHECK(bind(fd, (struct sockaddr*)&name, sizeof name) == 0 && listen(fd, 8) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  return fd;
}

static int connect_now(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(connect(fd, (struct sockaddr*)&name, sizeof name) == 0);
  return fd;
}

static int accept_one(int listener) {
  int fd = accept(listener, NULL, NULL);
  CHECK(fd >= 0);
  return fd;
}

static void expect(int from, int to, const char* text) {
  char buffer[64] = "";
  CHECK(send(from, text, strlen(text), 0) == (ssize_t)strlen(text));
  CHECK(recv(to, buffer, sizeof buffer - 1, MSG_DONTWAIT) == (ssize_t)strlen(text) && strcmp(buffer, text) == 0);
}

static void check(void) {
  expect(client, accepted, "to the server");
  expect(accepted, client, "back");
}

static void accept_all(void) {
  char byte;
  int first = accept_one(older);
  CHECK(recv(first, &byte, 1, MSG_DONTWAIT) == 0);
  expect(first, waiting[0], "to who says no more");
  int second = accept_one(older);
  CHECK(send(second, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  int third = accept_one(older);
  expect(waiting[2], third, "third");
  CHECK(accept(older, NULL, NULL) == -1 && errno == EAGAIN);
  int other = accept_one(newer);
  expect(at_newer, other, "at the new one");
  CHECK(accept(newer, NULL, NULL) == -1 && errno == EAGAIN);
  int late = connect_now();
  expect(late, accept_one(newer), "late");
}

int main(void) {
  snprintf(name.sun_path, sizeof name.sun_path, "%s", victim_path("name"));
  older = make_listener();
  client = connect_now();
  accepted = accept_one(older);
  for (int i = 0; i < kWaiting; ++i) waiting[i] = connect_now();
  CHECK(shutdown(waiting[0], SHUT_WR) == 0 && shutdown(waiting[1], SHUT_RD) == 0);
  newer = make_listener();
  at_newer = connect_now();
  victim_wait(check);
  if (victim_broken()) close(accept_one(older));
  accept_all();
  victim_pass();
}
