// A blocking write of a megabyte into a pipe or a socket comes back whole, though its thread is stopped, saved and restarted in the
// middle of it: the call must neither return early nor read EINTR, and no byte may be lost or doubled. The argument names the call;
// "recvmsg" is one that waits for all.
#include "victim.h"

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { kSize = 1 << 20 };

static int ends[2];
static volatile int end;
static volatile long transfers;
static unsigned char block[kSize];

static const char* kind;

enum { kPieces = 7 };
static void divide(struct iovec* pieces) {
  for (size_t i = 0, at = 0; i < kPieces; ++i) {
    size_t size = i + 1 < kPieces ? 100003 + i : kSize - at;
    pieces[i] = (struct iovec){block + at, size};
    at += size;
  }
}

static ssize_t transfer(int fd, int file) {
  struct iovec pieces[kPieces];
  divide(pieces);
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = kPieces};
  off_t begin = 0;
  if (strcmp(kind, "write") == 0) return write(fd, block, kSize);
  if (strcmp(kind, "writev") == 0) return writev(fd, pieces, kPieces);
  if (strcmp(kind, "pwritev2") == 0) return pwritev2(fd, pieces, kPieces, -1, 0);
  if (strcmp(kind, "sendmsg") == 0) return sendmsg(fd, &message, 0);
  return sendfile(fd, file, &begin, kSize);
}

static void* write_blocks(void* argument) {
  int file = memfd_create("block", MFD_CLOEXEC);
  CHECK(write(file, block, kSize) == kSize);
  while (!end) {
    ssize_t count = transfer(ends[1], file);
    if (count != kSize) victim_fail("%s returned %zd (%s) instead of %d", kind, count, strerror(errno), kSize);
    ++transfers;
  }
  close(ends[1]);
  return argument;
}

static long position;

// Reads slowly, so that the writer is nearly always in its call. Stops at the end.
static void read_some(long bytes) {
  unsigned char buffer[4096];
  for (; bytes > 0; bytes -= (long)sizeof buffer) {
    ssize_t count = read(ends[0], buffer, sizeof buffer);
    CHECK(count >= 0);
    if (count == 0) return;
    for (ssize_t i = 0; i < count; ++i, ++position) {
      unsigned char wanted = (unsigned char)(position % kSize * 31 >> 3);
      if (buffer[i] != wanted) victim_fail("byte %ld is %d instead of %d", position, buffer[i], wanted);
    }
  }
}

static void check(void) { read_some(kSize / 2); }

static void* receive_blocks(void* argument) {
  static unsigned char expected[kSize];
  struct iovec pieces[kPieces];
  divide(pieces);
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = kPieces};
  memcpy(expected, block, kSize);
  while (!end) {
    memset(block, 0, kSize);
    ssize_t count = recvmsg(ends[0], &message, MSG_WAITALL);
    if (count != kSize) victim_fail("recvmsg returned %zd (%s) instead of %d", count, strerror(errno), kSize);
    CHECK(memcmp(block, expected, kSize) == 0);
    ++transfers;
  }
  return argument;
}

static void send_some(long bytes) {
  for (; bytes > 0; --bytes, ++position) {
    unsigned char byte = (unsigned char)(position % kSize * 31 >> 3);
    CHECK(write(ends[1], &byte, 1) == 1);
  }
}

static void check_receiver(void) { send_some(kSize / 16); }

static void be_received(void) {
  pthread_t thread = start_thread(receive_blocks, NULL);
  send_some(200000);
  victim_wait(check_receiver);
  if (victim_broken()) ++position;
  end = 1;
  send_some(kSize - position % kSize);
  join_thread(thread);
  victim_pass();
}

int main(int argc, char** argv) {
  kind = argc > 1 ? argv[1] : "write";
  for (int i = 0; i < kSize; ++i) block[i] = (unsigned char)((long)i * 31 >> 3);
  const int is_pipe = strstr(kind, "write") != NULL;
  CHECK((!is_pipe ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends)) == 0);
  if (strcmp(kind, "recvmsg") == 0) be_received();
  pthread_t thread = start_thread(write_blocks, NULL);
  read_some(200000);
  victim_wait(check);
  if (victim_broken()) block[kSize - 1] ^= 1;
  end = 1;
  read_some(1L << 40);
  join_thread(thread);
  if (position != transfers * kSize) victim_fail("%ld bytes came of %ld", position, transfers * kSize);
  victim_pass();
}
