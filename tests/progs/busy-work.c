// A computation that takes a few seconds, for programs of another libc (musl-gcc builds it too): several threads, the heap, stdio.
// Prints a line for each block of work; nothing in the output depends on time. Argument: blocks of work (default 400).
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kThreads = 2, kWords = 100000 };
static long blocks = 400;
static uint64_t results[kThreads];

static uint64_t next(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

static void* work(void* argument) {
  size_t self = (uintptr_t)argument;
  uint64_t state = results[self] + self + 1;
  uint64_t* words = malloc(kWords * sizeof *words);
  for (int pass = 0; pass < 40; ++pass) {
    for (size_t i = 0; i < kWords; ++i) words[i] = next(&state);
    for (size_t i = 1; i < kWords; ++i) words[i] += words[i - 1] ^ words[next(&state) % kWords];
    results[self] ^= words[kWords - 1];
  }
  free(words);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc > 1) blocks = strtol(argv[1], NULL, 10);
  for (long block = 0; block < blocks; ++block) {
    pthread_t threads[kThreads];
    for (uintptr_t i = 0; i < kThreads; ++i) {
      if (pthread_create(&threads[i], NULL, work, (void*)i) != 0) return 1;
    }
    for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
    printf("%ld %016llx %016llx\n", block, (unsigned long long)results[0], (unsigned long long)results[1]);
  }
  puts("end");
  return 0;
}
