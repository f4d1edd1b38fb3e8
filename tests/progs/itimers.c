// Interval timers. "ticking": ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF go on ticking with their intervals. "oneshot": what is
// left of a long one-shot timer counts on where it stood, in the program's own time.
#include "victim.h"

#include <sys/time.h>

static volatile long ticks[3];
static const int numbers[3] = {SIGALRM, SIGVTALRM, SIGPROF};
static const int kinds[3] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
static int64_t start;
static int is_ticking;
static volatile int end;

static void on_tick(int number) {
  for (int i = 0; i < 3; ++i) ticks[i] += numbers[i] == number;
}

static void check(void) {
  struct itimerval timer;
  for (int i = 0; i < 3 && is_ticking; ++i) {
    CHECK(getitimer(kinds[i], &timer) == 0);
    if (timer.it_interval.tv_sec != 0 || timer.it_interval.tv_usec != 20000) victim_fail("timer %d has lost its interval", i);
    long before = ticks[i];
    for (int wait = 0; ticks[i] < before + 3; ++wait) {
      if (wait > 2000) victim_fail("timer %d does not tick", i);
      victim_sleep_ms(5);
    }
  }
  if (is_ticking) return;
  CHECK(getitimer(ITIMER_REAL, &timer) == 0);
  double left = (double)timer.it_value.tv_sec + (double)timer.it_value.tv_usec / 1e6;
  double passed = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;
  if (left + passed < 998.5 || left + passed > 1001.5) victim_fail("%.3f s left after %.3f s of 1000", left, passed);
  CHECK(timer.it_interval.tv_sec == 5);
  // CPU time: this program uses little of it.
  for (int i = 1; i < 3; ++i) {
    CHECK(getitimer(kinds[i], &timer) == 0);
    if (timer.it_value.tv_sec < 980 || timer.it_value.tv_sec > 1000) victim_fail("timer %d: %ld s left", i, timer.it_value.tv_sec);
    CHECK(timer.it_interval.tv_sec == 5);
  }
}

// CPU time for the two timers that count it.
static void* burn(void* argument) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  for (volatile long turn = 0; !end; ++turn) {
  }
  return argument;
}

int main(int argc, char** argv) {
  is_ticking = argc < 2 || strcmp(argv[1], "ticking") == 0;
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  for (int i = 0; i < 3; ++i) sigaction(numbers[i], &action, NULL);
  start = now_ns(CLOCK_MONOTONIC);
  struct itimerval fast = {{0, 20000}, {0, 20000}}, slow = {{5, 0}, {1000, 0}};
  for (int i = 0; i < 3 && is_ticking; ++i) CHECK(setitimer(kinds[i], &fast, NULL) == 0);
  for (int i = 0; i < 3 && !is_ticking; ++i) CHECK(setitimer(kinds[i], &slow, NULL) == 0);
  pthread_t thread = 0;
  if (is_ticking) thread = start_thread(burn, NULL);
  victim_wait(check);
  if (victim_broken()) setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
  check();
  end = 1;
  if (is_ticking) join_thread(thread);
  victim_pass();
}
