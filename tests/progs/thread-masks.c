// Each thread keeps its own signal mask; a signal one of them blocks stays blocked, and the kernel agrees.
#include "victim.h"

#include <semaphore.h>

enum { kThreads = 8 };
static sem_t prepared;
static volatile int end;

static int is_blocked_by(int thread, int number) {
  return (number * 7 + thread * 3) % 5 == 0 && number != SIGKILL && number != SIGSTOP;
}

// Reserved by glibc (32, 33) or musl (34).
static int is_ours(int number) { return number >= 32 && number <= 34; }

static void* body(void* argument) {
  int self = (int)(uintptr_t)argument;
  sigset_t set;
  sigemptyset(&set);
  for (int number = 1; number <= 64; ++number) {
    if (is_blocked_by(self, number) && !is_ours(number)) sigaddset(&set, number);
  }
  CHECK(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0);
  sem_post(&prepared);
  while (!end) victim_sleep_ms(5);
  sigset_t now;
  CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
  if (victim_broken() && self == 3) sigdelset(&now, SIGURG), sigaddset(&now, SIGHUP), sigaddset(&now, SIGINT);
  for (int number = 1; number <= 64; ++number) {
    if (is_ours(number)) continue;
    if (sigismember(&now, number) != is_blocked_by(self, number)) {
      victim_fail("thread %d: signal %d is %sblocked", self, number, sigismember(&now, number) ? "" : "not ");
    }
  }
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  sem_init(&prepared, 0, 0);
  for (uintptr_t i = 0; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&prepared) == 0);
  victim_wait(NULL);
  end = 1;
  for (int i = 0; i < kThreads; ++i) join_thread(threads[i]);
  victim_pass();
}
