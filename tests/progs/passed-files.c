// A file that one process opens and passes to another by a unix socket (SCM_RIGHTS): neither is the other's parent, and the first
// process has it not at all. Offset and status flags are of both, close-on-exec is each one's own; so it is for a pipe and a
// socket.
#include "members.h"

#include <sys/socket.h>

enum { kFiles = 3 };

static int way[2], files[kFiles], ends[2];
static struct Member giver, taker;

static void send_files(void) {
  char data = 'd', room[CMSG_SPACE(sizeof files)] = {0};
  struct iovec part = {&data, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  struct cmsghdr* head = CMSG_FIRSTHDR(&message);
  *head = (struct cmsghdr){CMSG_LEN(sizeof files), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(head), files, sizeof files);
  CHECK(sendmsg(way[0], &message, 0) == 1);
}

static void take_files(void) {
  char data, room[CMSG_SPACE(sizeof files)];
  struct iovec part = {&data, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  CHECK(recvmsg(way[1], &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message) != NULL);
  memcpy(files, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof files);
  CHECK(fcntl(files[1], F_SETFD, 0) == 0);
}

static long close_way(void) { return close(way[0]) != 0 || close(way[1]) != 0; }

static long obey_giver(int order) {
  int pair[2];
  switch (order) {
    case 'o':
      CHECK((files[0] = open(victim_path("passed"), O_RDWR | O_CREAT | O_EXCL, 0600)) >= 0 && pipe(ends) == 0);
      CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
      files[1] = ends[0];
      files[2] = pair[0];
      ends[0] = pair[1];
      send_files();
      return close(files[1]);
    case 'w':
      return write(files[0], "line\n", 5) == 5 && write(ends[1], "pipe", 4) == 4 && write(ends[0], "pair", 4) == 4;
    case 'n':
      return fcntl(files[0], F_SETFL, O_APPEND);
    case 'f':
      return fcntl(files[0], F_GETFD) == 0 && fcntl(ends[1], F_GETFD) == 0 && fcntl(files[2], F_GETFD) == 0;
    case 's':
      return lseek(files[0], 0, SEEK_SET);
  }
  return close_way();
}

static long obey_taker(int order) {
  char text[8] = "";
  switch (order) {
    case 'o':
      take_files();
      return 0;
    case 'r':
      CHECK(read(files[1], text, 4) == 4 && strcmp(text, "pipe") == 0);
      CHECK(read(files[2], text, 4) == 4 && strcmp(text, "pair") == 0);
      return lseek(files[0], 0, SEEK_CUR);
    case 'n':
      return (fcntl(files[0], F_GETFL) & O_APPEND) != 0 && fcntl(files[0], F_SETFL, 0) == 0;
    case 'f':
      return fcntl(files[0], F_GETFD) == FD_CLOEXEC && fcntl(files[1], F_GETFD) == 0 && fcntl(files[2], F_GETFD) == FD_CLOEXEC;
  }
  return close_way();
}

static void check(void) {
  static long at;
  // What is in the pipe and in the socket was written before the checkpoint.
  if (member_do(&taker, 'r') != (at += 5)) victim_fail("the offset is not shared");
  CHECK(member_do(&giver, 'w') == 1);
  member_do(&giver, 'n');
  if (!member_do(&taker, 'n')) victim_fail("status flags are not shared");
  if (!member_do(&giver, 'f') || !member_do(&taker, 'f')) victim_fail("close-on-exec differs");
}

int main(void) {
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, way) == 0);
  giver = member_start(obey_giver);
  taker = member_start(obey_taker);
  CHECK(close_way() == 0);
  CHECK(member_do(&giver, 'o') == 0 && member_do(&taker, 'o') == 0);
  CHECK(member_do(&giver, 'c') == 0 && member_do(&taker, 'c') == 0 && member_do(&giver, 'w') == 1);
  victim_wait(check);
  if (victim_broken()) member_do(&giver, 's');
  check();
  member_end(&taker);
  member_end(&giver);
  victim_pass();
}
