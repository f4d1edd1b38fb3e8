// Descriptors in flight between unix sockets of the process survive (SCM_RIGHTS): one that is also open, one that is open nowhere
// else, ends of a pipe with bytes in it, a socket with a message in it, a memory file, in datagrams and within a stream.
#include "victim.h"

#include <sys/socket.h>

static int stream[2], packets[2], file;

static void send_fds(int fd, const char* data, size_t size, const int* fds, size_t count) {
  _Alignas(8) char control[CMSG_SPACE(8 * sizeof(int))] = {0};
  struct iovec vector = {(void*)data, size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  CHECK(sendmsg(fd, &message, 0) == (ssize_t)size);
}

// Expects exactly this data with so many descriptors.
static void receive_fds(int fd, const char* data, int* fds, size_t count) {
  _Alignas(8) char control[CMSG_SPACE(8 * sizeof(int))];
  char got[64];
  struct iovec vector = {got, sizeof got};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);
  if (size != (ssize_t)strlen(data) || memcmp(got, data, (size_t)size) != 0) victim_fail("%zd bytes '%.*s', not '%s'", size, (int)size, got, data);
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (count == 0) {
    CHECK(header == NULL);
    return;
  }
  CHECK(header != NULL && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(count * sizeof(int)));
  memcpy(fds, CMSG_DATA(header), count * sizeof(int));
}

static void fill(void) {
  int pipe_ends[2], pair[2], memory = memfd_create("in flight", MFD_CLOEXEC);
  CHECK(pipe(pipe_ends) == 0 && write(pipe_ends[1], "in the pipe", 11) == 11);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[0], "in the pair", 11) == 11);
  send_fds(stream[0], "before", 6, NULL, 0);
  send_fds(stream[0], "with", 4, (int[]){file, pipe_ends[0]}, 2);
  send_fds(stream[0], "after", 5, NULL, 0);
  CHECK(memory >= 0 && write(memory, "in memory", 9) == 9);
  send_fds(packets[0], "ends", 4, (int[]){pipe_ends[1], pair[1], memory}, 3);
  close(memory);
  send_fds(packets[0], "none", 4, NULL, 0);
  for (int i = 0; i < 2; ++i) close(pipe_ends[i]), close(pair[i]);
}

static void drain(void) {
  int fds[2], ends[3];
  char text[16];
  off_t before = lseek(file, 0, SEEK_CUR);
  // A stream gives what comes before descriptors together with them, and stops there.
  CHECK(recv(stream[1], text, 6, MSG_DONTWAIT) == 6 && memcmp(text, "before", 6) == 0);
  receive_fds(stream[1], "with", fds, 2);
  receive_fds(stream[1], "after", NULL, 0);
  receive_fds(packets[1], "ends", ends, 3);
  receive_fds(packets[1], "none", NULL, 0);
  CHECK(write(ends[0], "!", 1) == 1 && read(fds[1], text, sizeof text) == 12 && memcmp(text, "in the pipe!", 12) == 0);
  CHECK(read(ends[1], text, sizeof text) == 11 && memcmp(text, "in the pair", 11) == 0 && read(ends[1], text, 1) == 0);
  CHECK(lseek(fds[0], 1, SEEK_CUR) == before + 1 && lseek(file, 0, SEEK_CUR) == before + 1);
  close(ends[0]);
  CHECK(read(fds[1], text, 1) == 0);
  CHECK(pread(ends[2], text, sizeof text, 0) == 9 && memcmp(text, "in memory", 9) == 0);
  close(fds[0]), close(fds[1]), close(ends[1]), close(ends[2]);
}

static void check(void) {
  drain();
  fill();
}

int main(void) {
  file = open(victim_path("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0);
  fill();
  victim_wait(check);
  if (victim_broken()) send_fds(packets[0], "more", 4, NULL, 0);
  drain();
  char byte;
  CHECK(recv(packets[1], &byte, 1, MSG_DONTWAIT) == -1 && recv(stream[1], &byte, 1, MSG_DONTWAIT) == -1);
  victim_pass();
}
