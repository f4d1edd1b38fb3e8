// Unix sockets with names survive: listening ones by path (with the mode of the file, and without the file), abstract and automatic
// names, accepted connections and those that wait to be accepted, datagrams with their senders' names, also of one that is gone.
#include "victim.h"

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static int server, hidden, abstract, automatic, client, accepted, waiting, hidden_client, receiver, sender, bound;
static struct sockaddr_un automatic_name;
static socklen_t automatic_size;

static socklen_t make_name(struct sockaddr_un* name, const char* text) {
  *name = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (text[0] == '@') {
    int length = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "%s-%ld", text + 1, (long)getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
  }
  CHECK((size_t)snprintf(name->sun_path, sizeof name->sun_path, "%s/%s", getenv("VICTIM_DIR"), text) < sizeof name->sun_path);
  return sizeof *name;
}

static int make(int type, const char* text) {
  struct sockaddr_un name;
  socklen_t size = make_name(&name, text);
  int fd = socket(AF_UNIX, type, 0);
  CHECK(bind(fd, (struct sockaddr*)&name, size) == 0);
  return fd;
}

static int connect_to(int type, const char* text) {
  struct sockaddr_un name;
  socklen_t size = make_name(&name, text);
  int fd = socket(AF_UNIX, type, 0);
  CHECK(connect(fd, (struct sockaddr*)&name, size) == 0);
  return fd;
}

static void expect_name(const struct sockaddr_un* now, socklen_t size, const char* text) {
  struct sockaddr_un name;
  socklen_t wanted = make_name(&name, text);
  if (text[0] != '@') wanted = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name.sun_path) + 1);
  if (size != wanted || memcmp(now, &name, size) != 0) victim_fail("the name is not %s but %s", text, now->sun_path);
}

static void check_local(int fd, const char* text) {
  struct sockaddr_un now;
  socklen_t size = sizeof now;
  CHECK(getsockname(fd, (struct sockaddr*)&now, &size) == 0);
  expect_name(&now, size, text);
}

static void check_remote(int fd, const char* text) {
  struct sockaddr_un now;
  socklen_t size = sizeof now;
  CHECK(getpeername(fd, (struct sockaddr*)&now, &size) == 0);
  expect_name(&now, size, text);
}

static void expect_from(int fd, const char* data, const char* text) {
  char got[64];
  struct sockaddr_un from;
  socklen_t size = sizeof from;
  ssize_t count = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (struct sockaddr*)&from, &size);
  if (count != (ssize_t)strlen(data) || memcmp(got, data, (size_t)count) != 0) victim_fail("%zd bytes instead of '%s'", count, data);
  if (text == NULL) {
    CHECK(size == 0 || size == sizeof from.sun_family);
  } else {
    expect_name(&from, size, text);
  }
}

static void send_to(int fd, const char* data, const char* text) {
  struct sockaddr_un name;
  socklen_t size = make_name(&name, text);
  CHECK(sendto(fd, data, strlen(data), 0, (struct sockaddr*)&name, size) == (ssize_t)strlen(data));
}

static void fill(void) {
  send_to(sender, "named", "receiver");
  int other = make(SOCK_DGRAM, "gone");
  send_to(other, "gone", "receiver");
  close(other);
  unlink(victim_path("gone"));
  other = socket(AF_UNIX, SOCK_DGRAM, 0);
  send_to(other, "nameless", "receiver");
  close(other);
  CHECK(send(bound, "connected", 9, 0) == 9 && send(client, "request", 7, 0) == 7);
}

static void drain(void) {
  char got[16];
  expect_from(receiver, "named", "sender");
  expect_from(receiver, "gone", "gone");
  expect_from(receiver, "nameless", NULL);
  expect_from(receiver, "connected", "@bound");
  CHECK(recv(accepted, got, sizeof got, MSG_DONTWAIT) == 7 && memcmp(got, "request", 7) == 0);
}

static void check_state(void) {
  struct stat status;
  struct sockaddr_un now;
  socklen_t size = sizeof now;
  check_local(server, "server");
  check_local(accepted, "server");
  check_remote(client, "server");
  check_local(hidden, "hidden");
  check_remote(hidden_client, "hidden");
  check_local(abstract, "@abstract");
  check_local(bound, "@bound");
  check_remote(bound, "receiver");
  CHECK(getsockname(automatic, (struct sockaddr*)&now, &size) == 0 && size == automatic_size);
  CHECK(memcmp(&now, &automatic_name, size) == 0);
  CHECK(stat(victim_path("server"), &status) == 0 && S_ISSOCK(status.st_mode) && (status.st_mode & 0777) == 0620);
  CHECK(access(victim_path("hidden"), F_OK) != 0 && access(victim_path("gone"), F_OK) != 0);
  close(connect_to(SOCK_STREAM, "@abstract"));
  close(accept(abstract, NULL, NULL));
}

static void check(void) {
  check_state();
  drain();
  fill();
}

static void* accept_body(void* argument) {
  int fd = accept(abstract, NULL, NULL);
  if (fd < 0) victim_fail("the accepting thread: %s", strerror(errno));
  close(fd);
  return argument;
}

int main(void) {
  struct sockaddr_un name;
  server = make(SOCK_STREAM, "server");
  CHECK(chmod(victim_path("server"), 0620) == 0 && listen(server, 3) == 0);
  client = connect_to(SOCK_STREAM, "server");
  accepted = accept(server, NULL, NULL);
  waiting = connect_to(SOCK_STREAM, "server");
  hidden = make(SOCK_SEQPACKET, "hidden");
  CHECK(listen(hidden, 1) == 0);
  hidden_client = connect_to(SOCK_SEQPACKET, "hidden");
  CHECK(unlink(victim_path("hidden")) == 0);
  abstract = make(SOCK_STREAM, "@abstract");
  CHECK(listen(abstract, 2) == 0);
  automatic = socket(AF_UNIX, SOCK_DGRAM, 0);
  name.sun_family = AF_UNIX;
  CHECK(bind(automatic, (struct sockaddr*)&name, sizeof name.sun_family) == 0);
  automatic_size = sizeof automatic_name;
  CHECK(getsockname(automatic, (struct sockaddr*)&automatic_name, &automatic_size) == 0);
  receiver = make(SOCK_DGRAM, "receiver");
  sender = make(SOCK_DGRAM, "sender");
  bound = make(SOCK_DGRAM, "@bound");
  socklen_t size = make_name(&name, "receiver");
  CHECK(connect(bound, (struct sockaddr*)&name, size) == 0);
  fill();
  victim_wait(check);
  if (victim_broken()) send_to(sender, "more", "receiver");
  check_state();
  drain();
  CHECK(recv(receiver, &name, 1, MSG_DONTWAIT) == -1);
  int late = accept(server, NULL, NULL);
  char got[8];
  CHECK(late >= 0 && send(waiting, "late", 4, 0) == 4 && recv(late, got, sizeof got, 0) == 4);
  pthread_t thread = start_thread(accept_body, NULL);
  close(connect_to(SOCK_STREAM, "@abstract"));
  join_thread(thread);
  victim_pass();
}
