// A blocking write of a megabyte into a pipe or a socket comes back whole, though its thread is stopped, saved and restarted in the
// middle of it: the call must neither return early nor read EINTR, and no byte may be lost or doubled.
#include "victim.h"

enum { kSize = 1 << 20 };

static int ends[2];
static volatile int end;
static volatile long transfers;
static unsigned char block[kSize];

static void* write_blocks(void* argument) {
  while (!end) {
    ssize_t count = write(ends[1], block, kSize);
    if (count != kSize) victim_fail("write returned %zd (%s) instead of %d", count, strerror(errno), kSize);
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

int main(void) {
  for (int i = 0; i < kSize; ++i) block[i] = (unsigned char)((long)i * 31 >> 3);
  CHECK(pipe(ends) == 0);
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
