// Stacks of threads: contents of frames, and that they can be used further down afterwards.
#include "victim.h"

#include <semaphore.h>

enum { kThreads = 6, kLocal = 256 * 1024 };
static sem_t prepared, go_on;

__attribute__((noinline)) static void use_more(uint64_t seed) {
  volatile char local[kLocal];
  pattern_fill(local, kLocal, seed);
  CHECK(pattern_holds(local, kLocal, seed));
}

static void* body(void* argument) {
  volatile char local[kLocal];
  uint64_t seed = (uintptr_t)argument;
  pattern_fill(local, kLocal, seed);
  sem_post(&prepared);
  while (sem_wait(&go_on) != 0) victim_fail("sem_wait: %s", strerror(errno));
  if (victim_broken() && seed == 3) local[kLocal / 2] ^= 1;
  CHECK(pattern_holds(local, kLocal, seed));
  use_more(seed + 100);
  return argument;
}

int main(void) {
  pthread_t threads[kThreads];
  sem_init(&prepared, 0, 0);
  sem_init(&go_on, 0, 0);
  for (uintptr_t i = 0; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&prepared) == 0);
  victim_wait(NULL);
  for (int i = 0; i < kThreads; ++i) sem_post(&go_on);
  for (uintptr_t i = 0; i < kThreads; ++i) CHECK(join_thread(threads[i]) == (void*)i);
  victim_pass();
}
