// Who is at the other end of a unix socket, and who has sent a message: a parent and a child see each other's numbers by SO_PEERCRED
// (pairs, connections, connections that nobody has accepted yet) and in SCM_CREDENTIALS of messages in flight.
#include "victim.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static pid_t parent, child;
static int pair[2], letters[2], packets[2], listener, accepted, later, client, waiting, ask[2], answer[2];

static pid_t peer_of(int fd) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid() && peer.gid == getegid());
  return peer.pid;
}

static pid_t sender_of_next(int fd, const char* expected) {
  char text[16] = "", control[128];
  struct iovec vector = {text, sizeof text - 1};
  struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  CHECK(recvmsg(fd, &header, MSG_DONTWAIT) == (ssize_t)strlen(expected) && strcmp(text, expected) == 0);
  struct cmsghdr* first = CMSG_FIRSTHDR(&header);
  CHECK(first != NULL && first->cmsg_type == SCM_CREDENTIALS);
  struct ucred sender;
  memcpy(&sender, CMSG_DATA(first), sizeof sender);
  CHECK(sender.uid == geteuid());
  return sender.pid;
}

static int listen_at(const char* name) {
  struct sockaddr_un address = {AF_UNIX, ""};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", victim_path(name));
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr*)&address, sizeof address) == 0 && listen(fd, 4) == 0);
  return fd;
}

static int connect_to(const char* name) {
  struct sockaddr_un address = {AF_UNIX, ""};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", victim_path(name));
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(fd >= 0 && connect(fd, (struct sockaddr*)&address, sizeof address) == 0);
  return fd;
}

static void serve(void) {
  char order;
  child = getpid();
  close(ask[1]);
  client = connect_to("first");
  waiting = connect_to("second");
  CHECK(write(letters[1], "letter", 6) == 6 && write(packets[1], "packet", 6) == 6);
  while (read(ask[0], &order, 1) == 1) {
    const char is_right = peer_of(pair[0]) == parent && peer_of(client) == parent && peer_of(waiting) == parent;
    if (write(answer[1], &is_right, 1) != 1) _exit(9);
  }
  _exit(0);
}

static void check(void) {
  char is_right = 0;
  CHECK(peer_of(pair[0]) == parent && peer_of(pair[1]) == parent);
  CHECK(peer_of(accepted) == child && peer_of(listener) == parent);
  CHECK(write(ask[1], "?", 1) == 1 && read(answer[0], &is_right, 1) == 1 && is_right);
}

int main(void) {
  const int on = 1;
  parent = getpid();
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, letters) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, packets) == 0 && pipe(ask) == 0 && pipe(answer) == 0);
  CHECK(setsockopt(letters[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  CHECK(setsockopt(packets[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  listener = listen_at("first");
  later = listen_at("second");
  CHECK((child = fork()) >= 0);
  if (child == 0) serve();
  close(ask[0]);
  CHECK((accepted = accept(listener, NULL, NULL)) >= 0);
  check();
  CHECK(write(letters[1], "own", 3) == 3);
  victim_wait(check);
  if (victim_broken()) accepted = pair[0];
  check();
  CHECK(sender_of_next(letters[0], "letter") == child && sender_of_next(letters[0], "own") == parent);
  CHECK(sender_of_next(packets[0], "packet") == child);
  int taken = accept(later, NULL, NULL);
  CHECK(taken >= 0 && peer_of(taken) == child);
  close(ask[1]);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  victim_pass();
}
