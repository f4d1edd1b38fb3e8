// Locks across a checkpoint. Of each sort (mutexes of all types, rwlock, barrier, semaphore, condition variable, spin lock) one is
// held by the main thread or another while others are blocked in it; after the restart it is released, and all must come through,
// once.
#include "victim.h"

#include <semaphore.h>

enum { kWaiters = 3 };
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive, checking, robust, inheriting;
static pthread_rwlock_t read_held = PTHREAD_RWLOCK_INITIALIZER, write_held = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore, blocked_soon;
static pthread_mutex_t condition_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int condition_open;
static volatile int released;
static int passed;

static void through(void) {
  if (!released) victim_fail("a waiter came through before the release");
  __atomic_add_fetch(&passed, 1, __ATOMIC_SEQ_CST);
}

static void* wait_mutex(void* mutex) {
  sem_post(&blocked_soon);
  CHECK(pthread_mutex_lock(mutex) == 0);
  through();
  CHECK(pthread_mutex_unlock(mutex) == 0);
  return NULL;
}

static void* wait_reader(void* lock) {
  sem_post(&blocked_soon);
  CHECK(pthread_rwlock_rdlock(lock) == 0);
  through();
  CHECK(pthread_rwlock_unlock(lock) == 0);
  return NULL;
}

static void* wait_writer(void* lock) {
  sem_post(&blocked_soon);
  CHECK(pthread_rwlock_wrlock(lock) == 0);
  through();
  CHECK(pthread_rwlock_unlock(lock) == 0);
  return NULL;
}

static void* wait_barrier(void* unused) {
  sem_post(&blocked_soon);
  int result = pthread_barrier_wait(&barrier);
  CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
  through();
  return unused;
}

static void* wait_semaphore(void* unused) {
  sem_post(&blocked_soon);
  if (sem_wait(&semaphore) != 0) victim_fail("sem_wait: %s", strerror(errno));
  through();
  return unused;
}

static void* wait_condition(void* unused) {
  pthread_mutex_lock(&condition_mutex);
  sem_post(&blocked_soon);
  while (!condition_open) CHECK(pthread_cond_wait(&condition, &condition_mutex) == 0);
  through();
  pthread_mutex_unlock(&condition_mutex);
  return unused;
}

static void make_mutex(pthread_mutex_t* mutex, int type, int is_robust, int protocol) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, type);
  if (is_robust) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setprotocol(&attributes, protocol);
  CHECK(pthread_mutex_init(mutex, &attributes) == 0);
}

static void* leave_robust_dead(void* mutex) {
  CHECK(pthread_mutex_lock(mutex) == 0);
  return NULL;
}

int main(void) {
  pthread_mutex_t* mutexes[] = {&plain, &recursive, &checking, &robust, &inheriting};
  make_mutex(&recursive, PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE);
  make_mutex(&checking, PTHREAD_MUTEX_ERRORCHECK, 0, PTHREAD_PRIO_NONE);
  make_mutex(&robust, PTHREAD_MUTEX_NORMAL, 1, PTHREAD_PRIO_NONE);
  make_mutex(&inheriting, PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_INHERIT);
  sem_init(&semaphore, 0, 0);
  sem_init(&blocked_soon, 0, 0);
  pthread_barrier_init(&barrier, NULL, kWaiters + 1);
  for (int i = 0; i < 5; ++i) CHECK(pthread_mutex_lock(mutexes[i]) == 0);
  CHECK(pthread_mutex_lock(&recursive) == 0);
  CHECK(pthread_rwlock_rdlock(&read_held) == 0 && pthread_rwlock_wrlock(&write_held) == 0);

  pthread_t threads[64];
  int count = 0;
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < kWaiters; ++j) threads[count++] = start_thread(wait_mutex, mutexes[i]);
  }
  threads[count++] = start_thread(wait_writer, &read_held);
  for (int j = 0; j < kWaiters; ++j) {
    threads[count++] = start_thread(wait_reader, &write_held);
    threads[count++] = start_thread(wait_barrier, NULL);
    threads[count++] = start_thread(wait_semaphore, NULL);
    threads[count++] = start_thread(wait_condition, NULL);
  }
  for (int i = 0; i < count; ++i) CHECK(sem_wait(&blocked_soon) == 0);
  victim_sleep_ms(50);
  victim_wait(NULL);

  if (victim_broken()) pthread_mutex_unlock(&checking);
  if (victim_broken()) victim_sleep_ms(50);
  CHECK(passed == 0);
  CHECK(pthread_mutex_lock(&checking) == EDEADLK);
  CHECK(pthread_mutex_trylock(&plain) == EBUSY);
  released = 1;
  CHECK(pthread_mutex_unlock(&recursive) == 0);
  for (int i = 0; i < 5; ++i) CHECK(pthread_mutex_unlock(mutexes[i]) == 0);
  CHECK(pthread_rwlock_unlock(&read_held) == 0 && pthread_rwlock_unlock(&write_held) == 0);
  int result = pthread_barrier_wait(&barrier);
  CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
  for (int i = 0; i < kWaiters; ++i) sem_post(&semaphore);
  pthread_mutex_lock(&condition_mutex);
  condition_open = 1;
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&condition_mutex);
  for (int i = 0; i < count; ++i) join_thread(threads[i]);
  CHECK(passed == count);
  // The robust list is known to the kernel: the death of an owner is told to the next one.
  join_thread(start_thread(leave_robust_dead, &robust));
  CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD && pthread_mutex_consistent(&robust) == 0);
  CHECK(pthread_mutex_unlock(&robust) == 0);
  victim_pass();
}
