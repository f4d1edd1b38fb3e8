// plain write FILE MIB | plain read FILE: what a disk and a page cache can do without us. write: that many random bytes from memory
// into a new file, with fsync. read: the file into fresh memory. Prints nanoseconds, without what prepares.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/clock.h"

enum { kChunk = 1 << 20 };

static void check(int is_good, const char* what) {
  if (is_good) return;
  perror(what);
  exit(1);
}

static char* fresh_memory(size_t size) {
  void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(memory != MAP_FAILED, "mmap");
  return memory;
}

static int64_t write_file(const char* path, size_t size) {
  char* memory = fresh_memory(size);
  fill_random((uint64_t*)memory, size / sizeof(uint64_t));
  const int64_t begin = now_ns(CLOCK_MONOTONIC);
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  check(fd >= 0, path);
  for (size_t done = 0; done < size; done += kChunk) check(write(fd, memory + done, kChunk) == kChunk, path);
  check(fsync(fd) == 0 && close(fd) == 0, path);
  return now_ns(CLOCK_MONOTONIC) - begin;
}

static int64_t read_file(const char* path) {
  const int64_t begin = now_ns(CLOCK_MONOTONIC);
  const int fd = open(path, O_RDONLY);
  struct stat facts;
  check(fd >= 0 && fstat(fd, &facts) == 0, path);
  char* memory = fresh_memory((size_t)facts.st_size);
  ssize_t count = 0;
  for (off_t done = 0; done < facts.st_size; done += count) {
    count = read(fd, memory + done, kChunk);
    check(count > 0, path);
  }
  return now_ns(CLOCK_MONOTONIC) - begin;
}

int main(int argc, char** argv) {
  int64_t time = 0;
  if (argc == 4 && strcmp(argv[1], "write") == 0) {
    time = write_file(argv[2], (size_t)atoi(argv[3]) << 20);
  } else if (argc == 3 && strcmp(argv[1], "read") == 0) {
    time = read_file(argv[2]);
  } else {
    fprintf(stderr, "usage: plain write FILE MIB | plain read FILE\n");
    return 2;
  }
  printf("%lld\n", (long long)time);
  return 0;
}
