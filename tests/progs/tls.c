// Thread-local storage: __thread variables (initialised, zero, large) and pthread keys with destructors, in several threads.
#include "victim.h"

#include <semaphore.h>

enum { kThreads = 5 };
static __thread int initialised = 42;
static __thread int zero;
static __thread char large[10000];
static pthread_key_t key;
static int destroyed;
static sem_t prepared, go_on;

static void on_exit_of_thread(void* value) {
  CHECK((uintptr_t)value >= 1000);
  __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
}

static void set(uintptr_t self) {
  CHECK(initialised == 42 && zero == 0 && is_zero(large, sizeof large));
  initialised = (int)self;
  zero = (int)self * 2;
  pattern_fill(large, sizeof large, self);
  CHECK(pthread_setspecific(key, (void*)(self + 1000)) == 0);
  errno = (int)self + 1;
}

static void verify(uintptr_t self) {
  CHECK(initialised == (int)self && zero == (int)self * 2);
  CHECK(pattern_holds(large, sizeof large, self));
  CHECK(pthread_getspecific(key) == (void*)(self + 1000));
}

static void* body(void* argument) {
  uintptr_t self = (uintptr_t)argument;
  set(self);
  sem_post(&prepared);
  int error_before = errno;
  while (sem_trywait(&go_on) != 0) {
    errno = error_before;
    sched_yield();
    victim_sleep_ms(2);
    if (errno != error_before) victim_fail("errno %d became %d", error_before, errno);
  }
  if (victim_broken() && self == 2) zero = 0;
  verify(self);
  return NULL;
}

static void check(void) { verify(100); }

int main(void) {
  pthread_t threads[kThreads];
  sem_init(&prepared, 0, 0);
  sem_init(&go_on, 0, 0);
  CHECK(pthread_key_create(&key, on_exit_of_thread) == 0);
  for (uintptr_t i = 0; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&prepared) == 0);
  set(100);
  victim_wait(check);
  for (int i = 0; i < kThreads; ++i) sem_post(&go_on);
  for (int i = 0; i < kThreads; ++i) join_thread(threads[i]);
  check();
  CHECK(destroyed == kThreads);
  // A thread born after the restart starts from the initial values.
  sem_post(&go_on);
  join_thread(start_thread(body, (void*)7));
  CHECK(destroyed == kThreads + 1);
  victim_pass();
}
