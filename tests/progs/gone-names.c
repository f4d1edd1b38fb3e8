// Unix sockets whose names lead to them no more: the file is gone, or its folder too, or it is another socket's by now, or it has
// got another name; and one that is connected to itself.
#include "victim.h"

#include <sys/socket.h>
#include <sys/un.h>

static int alone, asks, replaced, successor, itself, moved, linked;

static struct sockaddr_un name_of(const char* file) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  CHECK((size_t)snprintf(name.sun_path, sizeof name.sun_path, "%s/%s", getenv("VICTIM_DIR"), file) < sizeof name.sun_path);
  return name;
}

static int bound(int type, const char* file) {
  const struct sockaddr_un name = name_of(file);
  const int fd = socket(AF_UNIX, type, 0);
  CHECK(fd >= 0 && bind(fd, (const struct sockaddr*)&name, sizeof name) == 0);
  if (type == SOCK_STREAM) CHECK(listen(fd, 3) == 0);
  return fd;
}

static void connect_to(int fd, const char* file) {
  const struct sockaddr_un name = name_of(file);
  CHECK(connect(fd, (const struct sockaddr*)&name, sizeof name) == 0);
}

static void is_named(int fd, const char* file) {
  const struct sockaddr_un name = name_of(file);
  struct sockaddr_un now = {0};
  socklen_t size = sizeof now;
  CHECK(getsockname(fd, (struct sockaddr*)&now, &size) == 0 && strcmp(now.sun_path, name.sun_path) == 0);
}

static void passes(int from, int to) {
  char text[8];
  CHECK(recv(to, text, sizeof text, MSG_DONTWAIT) == 4 && memcmp(text, "wait", 4) == 0);
  CHECK(send(from, "wait", 4, MSG_DONTWAIT) == 4);
}

static void is_reached(int fd, const char* file) {
  char text[8];
  struct stat status;
  const int client = socket(AF_UNIX, fd == moved ? SOCK_STREAM : SOCK_DGRAM, 0);
  connect_to(client, file);
  const int server = fd == moved ? accept(fd, NULL, NULL) : fd;
  CHECK(send(client, "here", 4, 0) == 4 && recv(server, text, sizeof text, 0) == 4 && memcmp(text, "here", 4) == 0);
  CHECK(close(client) == 0 && (server == fd || close(server) == 0));
  CHECK(stat(victim_path(file), &status) == 0 && (status.st_mode & 07777) == 0640);
}

static void verify(void) {
  is_named(alone, "folder/socket");
  is_named(replaced, "taken");
  is_named(successor, "taken");
  passes(asks, alone);
  passes(itself, itself);
  CHECK(access(victim_path("folder"), F_OK) == -1 && access(victim_path("itself"), F_OK) == 0);
  const int client = socket(AF_UNIX, SOCK_STREAM, 0);
  connect_to(client, "taken");
  CHECK(fcntl(replaced, F_SETFL, O_NONBLOCK) == 0 && accept(replaced, NULL, NULL) == -1 && errno == EAGAIN);
  const int server = accept(successor, NULL, NULL);
  CHECK(server >= 0 && close(server) == 0 && close(client) == 0);
  is_named(moved, "before-move");
  is_named(linked, "before-link");
  is_reached(moved, "moved");
  is_reached(linked, "linked");
  CHECK(access(victim_path("before-move"), F_OK) == -1 && access(victim_path("before-link"), F_OK) == -1);
}

int main(void) {
  CHECK(mkdir(victim_path("folder"), 0700) == 0);
  alone = bound(SOCK_DGRAM, "folder/socket");
  asks = socket(AF_UNIX, SOCK_DGRAM, 0);
  connect_to(asks, "folder/socket");
  CHECK(unlink(victim_path("folder/socket")) == 0 && rmdir(victim_path("folder")) == 0);
  replaced = bound(SOCK_STREAM, "taken");
  CHECK(unlink(victim_path("taken")) == 0);
  successor = bound(SOCK_STREAM, "taken");
  itself = bound(SOCK_DGRAM, "itself");
  connect_to(itself, "itself");
  CHECK(send(asks, "wait", 4, 0) == 4 && send(itself, "wait", 4, 0) == 4);
  moved = bound(SOCK_STREAM, "before-move");
  linked = bound(SOCK_DGRAM, "before-link");
  char before[256];
  snprintf(before, sizeof before, "%s", victim_path("before-move"));
  CHECK(chmod(before, 0640) == 0 && rename(before, victim_path("moved")) == 0);
  snprintf(before, sizeof before, "%s", victim_path("before-link"));
  CHECK(chmod(before, 0640) == 0 && link(before, victim_path("linked")) == 0 && unlink(before) == 0);
  victim_wait(verify);
  if (victim_broken()) CHECK(unlink(victim_path("itself")) == 0);
  verify();
  victim_pass();
}
