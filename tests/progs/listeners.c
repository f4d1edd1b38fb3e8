// A TCP and a UDP port, and two unix names. With the name of one as argument it takes just that, as the image's program had it.
#include "victim.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static int by_tcp, by_udp, by_path, by_name;

// Ports are remembered in files, so that another one can take them.
static in_port_t port_of(const char* name) {
  char text[16];
  return read_file(victim_path(name), text, sizeof text) > 0 ? (in_port_t)atoi(text) : 0;
}

static int take_port(int type, const char* name) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port_of(name)};
  socklen_t size = sizeof address;
  char text[16];
  int fd = socket(AF_INET, type, 0);
  CHECK(bind(fd, (struct sockaddr*)&address, size) == 0 && (type == SOCK_DGRAM || listen(fd, 5) == 0));
  CHECK(getsockname(fd, (struct sockaddr*)&address, &size) == 0);
  snprintf(text, sizeof text, "%d", address.sin_port);
  victim_write(name, text);
  return fd;
}

static int take_name(int is_path) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  int length = snprintf(name.sun_path + !is_path, sizeof name.sun_path - 1, "%s/name", getenv("VICTIM_DIR"));
  if (is_path) unlink(name.sun_path);
  CHECK(bind(fd, (struct sockaddr*)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0);
  CHECK(listen(fd, 5) == 0);
  return fd;
}

static void check(void) {
  int on = 0;
  socklen_t size = sizeof on;
  for (const int* fd = (int[]){by_tcp, by_path, by_name, -1}; *fd >= 0; ++fd) {
    CHECK(getsockopt(*fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on == 1);
  }
}

int main(int argc, char** argv) {
  const char* only = argc > 1 ? argv[1] : "";
  if (only[0] == '\0' || strcmp(only, "tcp") == 0) by_tcp = take_port(SOCK_STREAM, "tcp-port");
  if (only[0] == '\0' || strcmp(only, "udp") == 0) by_udp = take_port(SOCK_DGRAM, "udp-port");
  if (only[0] == '\0' || strcmp(only, "path") == 0) by_path = take_name(1);
  if (only[0] == '\0' || strcmp(only, "abstract") == 0) by_name = take_name(0);
  if (only[0] != '\0') {
    victim_write("holds", "holds\n");
    for (;;) pause();
  }
  victim_wait(check);
  if (victim_broken()) CHECK(shutdown(by_tcp, SHUT_RDWR) == 0);
  check();
  victim_pass();
}
