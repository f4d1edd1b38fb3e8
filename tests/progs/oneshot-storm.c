// One-shot timers that expire all the time, so that freezes hit the moment in which one does: each expiration is told exactly
// once. By setitimer, by a POSIX timer for the process and by one for a thread, to threads that wait for the signal or handle it.
#include "victim.h"

#include <sys/time.h>

enum { kKinds = 4 };

static volatile long turns[kKinds];
static volatile int end;
static __thread volatile sig_atomic_t caught;

static void on_signal(int number) { caught += number == SIGRTMIN + 3; }

static int64_t random_us(unsigned* seed) { return 100 + rand_r(seed) % 3000; }

static timer_t make(int notify, int number) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = notify, .sigev_signo = number};
  event._sigev_un._tid = gettid();
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  return timer;
}

static void arm(size_t kind, timer_t timer, unsigned* seed) {
  int64_t left = random_us(seed);
  struct itimerval interval = {{0, 0}, {0, left}};
  struct itimerspec time = {{0, 0}, {0, left * 1000}};
  if (kind == 0) CHECK(setitimer(ITIMER_REAL, &interval, NULL) == 0);
  if (kind > 0) CHECK(timer_settime(timer, 0, &time, NULL) == 0);
}

static void await(size_t kind, const sigset_t* set, const sigset_t* open) {
  static const struct timespec limit = {10, 0}, none = {0, 0};
  if (kind == 3) {
    while (caught == 0) sigsuspend(open);
    if (caught != 1) victim_fail("an expiration was told %d times", (int)caught);
    caught = 0;
    return;
  }
  if (sigtimedwait(set, NULL, &limit) < 0) victim_fail("kind %zu: an expiration was not told", kind);
  if (sigtimedwait(set, NULL, &none) >= 0) victim_fail("kind %zu: an expiration was told twice", kind);
}

static void* body(void* argument) {
  size_t kind = (uintptr_t)argument;
  unsigned seed = (unsigned)kind;
  int number = kind == 0 ? SIGALRM : SIGRTMIN + (int)kind;
  sigset_t set, open;
  sigemptyset(&set);
  sigaddset(&set, number);
  pthread_sigmask(SIG_BLOCK, NULL, &open);
  sigdelset(&open, number);
  timer_t timer = make(kind == 1 ? SIGEV_SIGNAL : SIGEV_THREAD_ID, number);
  for (; !end; ++turns[kind]) {
    arm(kind, timer, &seed);
    await(kind, &set, &open);
  }
  return argument;
}

static void check(void) {
  for (int kind = 0; kind < kKinds; ++kind) {
    long before = turns[kind];
    for (int wait = 0; turns[kind] < before + 3; ++wait) {
      if (wait > 3000) victim_fail("kind %d stands still", kind);
      victim_sleep_ms(5);
    }
  }
}

int main(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  for (int i = 1; i < kKinds; ++i) sigaddset(&set, SIGRTMIN + i);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGRTMIN + 3, on_signal);
  pthread_t threads[kKinds];
  for (uintptr_t i = 0; i < kKinds; ++i) threads[i] = start_thread(body, (void*)i);
  victim_wait(check);
  if (victim_broken()) victim_fail("sabotage");
  check();
  end = 1;
  for (int i = 0; i < kKinds; ++i) join_thread(threads[i]);
  victim_pass();
}
