// Time, and numbers left in files for the script: what the programs of the bench share.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline int64_t now_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// The file appears complete: the script waits for it.
static inline void write_number(const char* path, int64_t number) {
  char temporary[4096];
  snprintf(temporary, sizeof(temporary), "%.4000s.new", path);
  FILE* file = fopen(temporary, "w");
  if (file == NULL || fprintf(file, "%lld\n", (long long)number) < 0 || fclose(file) != 0 || rename(temporary, path) != 0) {
    perror(path);
    exit(1);
  }
}

// Not compressible and quickly made.
static inline void fill_random(uint64_t* words, size_t count) {
  uint64_t state = 0x9e3779b97f4a7c15ULL;
  for (size_t i = 0; i < count; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    words[i] = state;
  }
}
