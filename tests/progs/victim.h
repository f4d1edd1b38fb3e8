// What every program under test shares. A victim prepares state, says ready, waits while the harness checkpoints, kills and
// restarts it, and then checks itself. It talks with the harness by the existence of files in $VICTIM_DIR only, so that no
// descriptor of the protocol is open when a checkpoint hits it:
//
//   ready       made by the victim: prepared, checkpoints may come
//   round-<n>   made by the harness after the nth checkpoint or restart; the victim checks itself and answers with done-<n>
//   go          made by the harness: last check, then the end
//   result      made by the victim: "pass", or "fail: " and the reason
//
// With VICTIM_BREAK=1 a victim spoils its own state after `go`, so that a test can see that the check bites.
// Include this first: it asks for the GNU declarations.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

// Path of a file of the protocol. The buffer belongs to the calling thread.
static inline const char* victim_path(const char* name) {
  static __thread char path[4096];
  const char* directory = getenv("VICTIM_DIR");
  if (directory == NULL) {
    fputs("victim: VICTIM_DIR is not set\n", stderr);
    _exit(2);
  }
  if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path) _exit(2);
  return path;
}

static inline int victim_exists(const char* name) { return access(victim_path(name), F_OK) == 0; }

// Makes a file complete from the start: written under another name first, one that a second restart of the same image does not use.
static inline void victim_write(const char* name, const char* text) {
  char temporary[4096 + 16];
  snprintf(temporary, sizeof temporary, "%s.XXXXXX", victim_path(name));
  int fd = mkostemp(temporary, O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0 ||
      rename(temporary, victim_path(name)) != 0) {
    perror("victim: cannot write into VICTIM_DIR");
    _exit(2);
  }
}

__attribute__((format(printf, 1, 2), noreturn)) static inline void victim_fail(const char* format, ...) {
  char text[1024] = "fail: ";
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + 6, sizeof text - 8, format, arguments);
  va_end(arguments);
  strcat(text, "\n");
  fputs(text, stderr);
  if (!victim_exists("result")) victim_write("result", text);
  _exit(1);
}

__attribute__((noreturn)) static inline void victim_pass(void) {
  victim_write("result", "pass\n");
  exit(0);
}

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) victim_fail("%s:%d: %s (errno %d: %s)", __FILE__, __LINE__, #condition, errno, strerror(errno)); \
  } while (0)

static inline int victim_broken(void) {
  const char* value = getenv("VICTIM_BREAK");
  return value != NULL && value[0] == '1';
}

static inline void victim_ready(void) { victim_write("ready", "ready\n"); }

static inline void victim_sleep_ms(long milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
}

// Waits for `go`; each round of the harness in between runs `check`, which may be NULL.
static inline void victim_wait_rounds(void (*check)(void)) {
  int round = 1;
  char name[32];
  while (!victim_exists("go")) {
    snprintf(name, sizeof name, "round-%d", round);
    if (victim_exists(name)) {
      if (check != NULL) check();
      snprintf(name, sizeof name, "done-%d", round++);
      victim_write(name, "done\n");
    }
    victim_sleep_ms(5);
  }
}

static inline void victim_wait(void (*check)(void)) {
  victim_ready();
  victim_wait_rounds(check);
}

static inline int64_t now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// A pattern that differs in every word and for every seed.
static inline uint64_t pattern_word(uint64_t seed, uint64_t index) {
  uint64_t word = (seed + 1) * 0x9e3779b97f4a7c15ULL + index * 0xd1342543de82ef95ULL;
  word ^= word >> 29;
  word *= 0xbf58476d1ce4e5b9ULL;
  return word ^ word >> 32;
}

static inline void pattern_fill(volatile void* memory, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size / 8; ++i) ((volatile uint64_t*)memory)[i] = pattern_word(seed, i);
}

static inline int pattern_holds(const volatile void* memory, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size / 8; ++i) {
    if (((const volatile uint64_t*)memory)[i] != pattern_word(seed, i)) {
      fprintf(stderr, "pattern %llu broken at byte %zu of %zu\n", (unsigned long long)seed, i * 8, size);
      return 0;
    }
  }
  return 1;
}

static inline int is_zero(const volatile void* memory, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    if (((const volatile unsigned char*)memory)[i] != 0) return 0;
  }
  return 1;
}

static inline void* map_anonymous(size_t size, int protection) {
  void* memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

// Reads a small file whole, without stdio; NUL-terminated. Returns the bytes read, or -1.
static inline ssize_t read_file(const char* path, char* buffer, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t filled = 0;
  ssize_t got;
  while (filled < size - 1 && (got = read(fd, buffer + filled, size - 1 - filled)) > 0) filled += (size_t)got;
  close(fd);
  buffer[filled] = 0;
  return (ssize_t)filled;
}

static inline pthread_t start_thread(void* (*body)(void*), void* argument) {
  pthread_t thread;
  int error = pthread_create(&thread, NULL, body, argument);
  if (error != 0) victim_fail("pthread_create: %s", strerror(error));
  return thread;
}

static inline void* join_thread(pthread_t thread) {
  void* result;
  int error = pthread_join(thread, &result);
  if (error != 0) victim_fail("pthread_join: %s", strerror(error));
  return result;
}
