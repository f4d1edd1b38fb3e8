#!/usr/bin/env bats
# Programs with an allocator of their own, preloaded before ckpt comes: checkpointed at three random moments, killed and restarted.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

# Threads that allocate, and blocks that one thread frees for another: with_allocator LIBRARY. LD_PRELOAD is there for the commands of
# ckpt too, as in a user's shell.
with_allocator() {
  local library
  library=$(ldconfig -p 2>/dev/null | awk -v name="$1" '$1 == name { print $NF; exit }')
  [ -n "$library" ] || library=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }')
  [ -e "$library" ] || skip "no $1"
  cat >"$BATS_TEST_TMPDIR/work.c" <<'C'
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { SLOTS = 20000, THREADS = 2, ROUNDS = 500 };
static unsigned char* slots[THREADS][SLOTS];
static size_t sizes[THREADS][SLOTS];
static pthread_barrier_t barrier;
static uint64_t sums[THREADS];
static void* work(void* argument) {
  size_t me = (size_t)argument;
  uint32_t x = 12345 + me;
  for (int round = 0; round < ROUNDS; ++round) {
    size_t side = (me + round) % THREADS;
    for (int i = 0; i < SLOTS; ++i) {
      x = x * 1664525 + 1013904223;
      if (slots[side][i]) sums[me] = sums[me] * 31 + slots[side][i][sizes[side][i] - 1];
      size_t size = 1 + (x >> 8) % (i % 500 == 0 ? 300000 : 600);
      if (x >> 31) { free(slots[side][i]); slots[side][i] = malloc(size); }
      else slots[side][i] = realloc(slots[side][i], size);
      memset(slots[side][i], x & 255, size);
      sizes[side][i] = size;
    }
    pthread_barrier_wait(&barrier);
    if (me == 0) printf("%d %llx %llx\n", round, (unsigned long long)sums[0], (unsigned long long)sums[1]);
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}
int main(void) {
  pthread_t threads[THREADS];
  pthread_barrier_init(&barrier, NULL, THREADS);
  for (size_t i = 0; i < THREADS; ++i) pthread_create(&threads[i], NULL, work, (void*)i);
  for (size_t i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096];
  int there = 0;
  while (fgets(line, sizeof line, maps)) there |= strstr(line, getenv("ALLOCATOR")) != NULL;
  printf("its allocator is %s\n", there ? "there" : "gone");
  return !there;
}
C
  gcc -O1 -pthread -o "$BATS_TEST_TMPDIR/allocate" "$BATS_TEST_TMPDIR/work.c"
  export ALLOCATOR=$1 LD_PRELOAD=$library
  same_output_over_three_restarts "$BATS_TEST_TMPDIR/allocate"
}

@test "jemalloc preloaded" {
  with_allocator libjemalloc.so.2
}

@test "tcmalloc preloaded" {
  with_allocator libtcmalloc_minimal.so.4
}
