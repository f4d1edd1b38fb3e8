// Pipes within the process: contents, capacity, non-blocking mode, packets, a description opened twice, and an end that is closed.
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>

#include "victim.h"

enum { kCapacity = 256 * 1024, kContent = 100000 };

static int full[2], empty[2], orphan[2], packets[2], copy;

static void check(void) {
  static char got[kContent + 1];
  CHECK(fcntl(full[0], F_GETPIPE_SZ) == kCapacity);
  CHECK((fcntl(empty[0], F_GETFL) & O_NONBLOCK) != 0 && (fcntl(empty[1], F_GETFL) & O_NONBLOCK) == 0);
  CHECK(read(empty[0], got, 1) == -1 && errno == EAGAIN);
  CHECK(write(empty[1], "x", 1) == 1 && read(empty[0], got, 2) == 1 && got[0] == 'x');
  CHECK(fcntl(copy, F_GETFL) == fcntl(full[1], F_GETFL));
  size_t size = 0;
  while (size < kContent) {
    ssize_t count = read(full[0], got + size, sizeof got - size);
    CHECK(count > 0);
    size += (size_t)count;
  }
  CHECK(size == kContent);
  for (int i = 0; i < kContent; ++i) CHECK(got[i] == (char)(i * 7));
  CHECK(write(copy, got, kContent) == kContent);
  CHECK(read(orphan[0], got, 8) == 4 && memcmp(got, "last", 4) == 0);
  CHECK(read(orphan[0], got, 8) == 0);
  CHECK(read(packets[0], got, 100) == 1 && got[0] == '1');
  CHECK(read(packets[0], got, 2) == 2 && memcmp(got, "tw", 2) == 0);  // what does not fit is lost
  CHECK(read(packets[0], got, 100) == 5 && memcmp(got, "three", 5) == 0);
  CHECK((fcntl(packets[1], F_GETFL) & O_DIRECT) != 0);
  CHECK(write(packets[1], "a", 1) == 1 && write(packets[1], "b", 1) == 1 && read(packets[0], got, 100) == 1);
  struct pollfd polled = {full[1], POLLOUT, 0};
  CHECK(poll(&polled, 1, 0) == 1);
}

int main(void) {
  static char data[kContent];
  CHECK(pipe(full) == 0 && pipe(empty) == 0 && pipe(orphan) == 0);
  CHECK(fcntl(full[1], F_SETPIPE_SZ, kCapacity) == kCapacity);
  CHECK(fcntl(empty[0], F_SETFL, O_NONBLOCK) == 0);
  for (int i = 0; i < kContent; ++i) data[i] = (char)(i * 7);
  CHECK(write(full[1], data, kContent) == kContent);
  CHECK(write(orphan[1], "last", 4) == 4);
  close(orphan[1]);
  CHECK(pipe2(packets, O_DIRECT) == 0 && fcntl(packets[0], F_SETFL, 0) == 0);
  CHECK(write(packets[1], "1", 1) == 1 && write(packets[1], "two", 3) == 3 && write(packets[1], "three", 5) == 5);
  copy = dup(full[1]);
  victim_wait(NULL);
  if (victim_broken()) CHECK(write(full[1], "y", 1) == 1);
  check();
  victim_pass();
}
