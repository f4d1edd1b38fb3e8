// N threads before the checkpoint and N more after it: joined, detached and cancelled ones, each with its own sum to carry.
#include "victim.h"

#include <semaphore.h>

enum { kMost = 2000 };
static long count = 8;
static pthread_t threads[kMost];
static pid_t tids[kMost];
static int rounds_seen[kMost];
static volatile int round_number;
static volatile int end;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static sem_t started, answered;

// Waits for round after round; counts each, and answers.
static void* body(void* argument) {
  long self = (long)(intptr_t)argument;
  tids[self] = gettid();
  sem_post(&started);
  int seen = rounds_seen[self];
  pthread_mutex_lock(&mutex);
  for (;;) {
    while (!end && seen == round_number) pthread_cond_wait(&changed, &mutex);
    if (end) break;
    seen = round_number;
    ++rounds_seen[self];
    if (gettid() != tids[self]) victim_fail("tid %d became %d", tids[self], gettid());
    sem_post(&answered);
  }
  pthread_mutex_unlock(&mutex);
  return argument;
}

static void* detached_body(void* argument) {
  sem_post(argument);
  return NULL;
}

static void* cancelled_body(void* argument) {
  sem_post(argument);
  for (;;) pause();
  return NULL;
}

static void start_and_end_others(void) {
  sem_t done;
  sem_init(&done, 0, 0);
  for (int i = 0; i < 8; ++i) {
    CHECK(pthread_detach(start_thread(detached_body, &done)) == 0);
    CHECK(sem_wait(&done) == 0);
    pthread_t thread = start_thread(cancelled_body, &done);
    CHECK(sem_wait(&done) == 0);
    CHECK(pthread_cancel(thread) == 0);
    CHECK(join_thread(thread) == PTHREAD_CANCELED);
  }
}

static void check(void) {
  pthread_mutex_lock(&mutex);
  ++round_number;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  for (long i = 0; i < count; ++i) CHECK(sem_wait(&answered) == 0);
  for (long i = 0; i < count; ++i) CHECK(rounds_seen[i] == round_number);
  start_and_end_others();
}

static void start(long from, long to) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  for (long i = from; i < to; ++i) {
    rounds_seen[i] = round_number;
    int error = pthread_create(&threads[i], &attributes, body, (void*)(intptr_t)i);
    if (error != 0) victim_fail("pthread_create %ld: %s", i, strerror(error));
  }
  for (long i = from; i < to; ++i) CHECK(sem_wait(&started) == 0);
}

int main(int argc, char** argv) {
  if (argc > 1) count = strtol(argv[1], NULL, 10);
  CHECK(count >= 1 && 2 * count <= kMost);
  sem_init(&started, 0, 0);
  sem_init(&answered, 0, 0);
  start(0, count);
  // One that is cancelled only after the restart, and one detached that waits through it.
  sem_t waiting;
  sem_init(&waiting, 0, 0);
  pthread_t cancelled = start_thread(cancelled_body, &waiting);
  pthread_t detached = start_thread(cancelled_body, &waiting);
  CHECK(sem_wait(&waiting) == 0 && sem_wait(&waiting) == 0 && pthread_detach(detached) == 0);
  victim_wait(check);
  if (victim_broken()) --rounds_seen[count - 1];
  check();
  CHECK(pthread_cancel(cancelled) == 0 && join_thread(cancelled) == PTHREAD_CANCELED);
  CHECK(pthread_cancel(detached) == 0);
  long before = count;
  count *= 2;
  start(before, count);
  check();
  pthread_mutex_lock(&mutex);
  end = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  for (long i = 0; i < count; ++i) CHECK(join_thread(threads[i]) == (void*)(intptr_t)i);
  victim_pass();
}
