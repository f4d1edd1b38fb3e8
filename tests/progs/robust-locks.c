// Robust mutexes held by a thread that ends after the restart: the kernel must still know each thread's list, and the owner of each
// priority-inheriting lock, or the waiters would wait for ever. With and without priority inheritance, private and shared, waited
// for with and without a time limit.
#include "victim.h"

#include <semaphore.h>

enum { kKinds = 4, kWaiters = 3 };

static pthread_mutex_t mutexes[kKinds];
static sem_t held, leave, waiting;
static volatile int owner_is_gone;
static int dead_owners, entered;

static void* own(void* argument) {
  for (int i = 0; i < kKinds; ++i) CHECK(pthread_mutex_lock(&mutexes[i]) == 0);
  sem_post(&held);
  while (sem_wait(&leave) != 0) victim_fail("sem_wait: %s", strerror(errno));
  owner_is_gone = 1;
  return argument;
}

static int lock_in_some_way(pthread_mutex_t* mutex, size_t way) {
  struct timespec limit;
  if (way == 0) return pthread_mutex_lock(mutex);
  clockid_t clock = way == 1 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
  clock_gettime(clock, &limit);
  limit.tv_sec += 1000;
  return way == 1 ? pthread_mutex_timedlock(mutex, &limit) : pthread_mutex_clocklock(mutex, clock, &limit);
}

static void* wait_for(void* argument) {
  size_t number = (uintptr_t)argument;
  pthread_mutex_t* mutex = &mutexes[number / kWaiters];
  sem_post(&waiting);
  int result = lock_in_some_way(mutex, number % kWaiters);
  if (!owner_is_gone) victim_fail("a waiter came through while the lock was held");
  if (result == EOWNERDEAD) {
    __atomic_add_fetch(&dead_owners, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_mutex_consistent(mutex) == 0);
  } else if (result != 0) {
    victim_fail("lock %zu, way %zu: %s", number / kWaiters, number % kWaiters, strerror(result));
  }
  __atomic_add_fetch(&entered, 1, __ATOMIC_SEQ_CST);
  CHECK(pthread_mutex_unlock(mutex) == 0);
  return argument;
}

static void check(void) {
  for (int i = 0; i < kKinds; ++i) CHECK(pthread_mutex_trylock(&mutexes[i]) == EBUSY);
  CHECK(entered == 0);
}

int main(void) {
  for (int i = 0; i < kKinds; ++i) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setprotocol(&attributes, i % 2 == 0 ? PTHREAD_PRIO_NONE : PTHREAD_PRIO_INHERIT);
    pthread_mutexattr_setpshared(&attributes, i / 2 == 0 ? PTHREAD_PROCESS_PRIVATE : PTHREAD_PROCESS_SHARED);
    CHECK(pthread_mutex_init(&mutexes[i], &attributes) == 0);
  }
  sem_init(&held, 0, 0);
  sem_init(&leave, 0, 0);
  sem_init(&waiting, 0, 0);
  pthread_t owner = start_thread(own, NULL), waiters[kKinds * kWaiters];
  CHECK(sem_wait(&held) == 0);
  for (uintptr_t i = 0; i < kKinds * kWaiters; ++i) waiters[i] = start_thread(wait_for, (void*)i);
  for (int i = 0; i < kKinds * kWaiters; ++i) CHECK(sem_wait(&waiting) == 0);
  victim_sleep_ms(50);
  victim_wait(check);
  if (victim_broken()) mutexes[1].__data.__lock = 0;
  check();
  sem_post(&leave);
  join_thread(owner);
  for (int i = 0; i < kKinds * kWaiters; ++i) join_thread(waiters[i]);
  CHECK(dead_owners == kKinds && entered == kKinds * kWaiters);
  victim_pass();
}
