// Names of threads, as /proc/self/task/TID/comm shows them.
#include "victim.h"

#include <semaphore.h>

enum { kThreads = 4 };
static pid_t tids[kThreads];
static sem_t started;
static volatile int end;

static void* body(void* argument) {
  tids[(uintptr_t)argument] = gettid();
  sem_post(&started);
  while (!end) victim_sleep_ms(5);
  return NULL;
}

static void expect_name(pid_t tid, const char* name) {
  char path[64], text[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
  CHECK(read_file(path, text, sizeof text) > 0);
  text[strcspn(text, "\n")] = 0;
  if (strcmp(text, name) != 0) victim_fail("thread %d is called '%s', not '%s'", tid, text, name);
}

static void check(void) {
  char name[16];
  for (int i = 0; i < kThreads; ++i) {
    snprintf(name, sizeof name, "worker %d)x", i);
    expect_name(tids[i], name);
  }
  expect_name(getpid(), "main (one) 15ch");
}

int main(void) {
  pthread_t threads[kThreads];
  sem_init(&started, 0, 0);
  for (uintptr_t i = 0; i < kThreads; ++i) {
    threads[i] = start_thread(body, (void*)i);
    char name[16];
    snprintf(name, sizeof name, "worker %d)x", (int)i);
    CHECK(pthread_setname_np(threads[i], name) == 0);
  }
  CHECK(pthread_setname_np(pthread_self(), "main (one) 15ch") == 0);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&started) == 0);
  victim_wait(check);
  if (victim_broken()) pthread_setname_np(threads[2], "other");
  check();
  end = 1;
  for (int i = 0; i < kThreads; ++i) join_thread(threads[i]);
  victim_pass();
}
