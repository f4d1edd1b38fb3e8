// POSIX timers of every clock and every way of notification keep their ids, their beat and what was left: periodic and one-shot,
// disarmed, for a thread, for a function, on CPU time; and what a blocked signal has missed stays counted. Periodic ones whose signal
// is pending have gone off once.
#include "victim.h"

enum { kBeatMs = 10, kLong = 1000 };

static timer_t beat, once, silent, disarmed, directed, called, process_time, thread_time, own_time, counted, late, waiting[2];
static volatile sig_atomic_t own_ticks, beats, calls, process_ticks, thread_ticks, directed_ticks;
static volatile int wrong_value, end;
static volatile pid_t directed_tid, wrong_tid;
static sigset_t held;
static long seen;
static int64_t start;

static void on_beat(int number, siginfo_t* info, void* unused) {
  (void)number, (void)unused;
  if (info->si_value.sival_ptr != &beats || info->si_code != SI_TIMER) wrong_value = 1;
  ++beats;
}
static void on_process_time(int number) { process_ticks += number == SIGRTMIN + 2; }
static void on_thread_time(int number) { thread_ticks += number == SIGRTMIN + 3; }
static void on_directed(int number) {
  if (gettid() != directed_tid) wrong_tid = gettid();
  directed_ticks += number == SIGRTMIN + 4;
}
static void on_own_time(int number) { own_ticks += number == SIGRTMIN + 7; }
static void on_call(union sigval value) {
  if (value.sival_ptr != &calls) wrong_value = 1;
  ++calls;
}

static timer_t make(clockid_t clock, int notify, int number, void* value) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = notify, .sigev_signo = number, .sigev_value.sival_ptr = value};
  event.sigev_notify_function = NULL;
  if (notify == SIGEV_THREAD) event.sigev_notify_function = on_call;
  if (notify == SIGEV_THREAD_ID) event._sigev_un._tid = directed_tid;
  CHECK(timer_create(clock, &event, &timer) == 0);
  return timer;
}

static void set(timer_t timer, int64_t first_ms, int64_t interval_ms) {
  struct itimerspec time = {{interval_ms / 1000, interval_ms % 1000 * 1000000}, {first_ms / 1000, first_ms % 1000 * 1000000}};
  CHECK(timer_settime(timer, 0, &time, NULL) == 0);
}

// CPU time, and a thread that a timer is directed to.
static void* burn(void* argument) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  // Made by this thread for whoever makes it.
  own_time = make(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 7, NULL);
  directed_tid = gettid();
  for (volatile long turn = 0; !end; ++turn) {
  }
  return argument;
}

static void expect_left(const char* what, timer_t timer, int64_t interval_s) {
  struct itimerspec time;
  CHECK(timer_gettime(timer, &time) == 0);
  double left = (double)time.it_value.tv_sec + (double)time.it_value.tv_nsec / 1e9;
  double passed = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;
  if (left + passed < kLong - 1.5 || left + passed > kLong + 1.5) victim_fail("%s: %.3f s left after %.3f s", what, left, passed);
  if (time.it_interval.tv_sec != interval_s) victim_fail("%s has lost its interval", what);
}

static void expect_ticks(const char* what, volatile sig_atomic_t* ticks) {
  long before = *ticks;
  for (int wait = 0; *ticks < before + 3; ++wait) {
    if (wait > 4000) victim_fail("%s does not tick", what);
    victim_sleep_ms(5);
  }
}

// Expirations of `counted` while its signal was blocked: each is told once, in the number of signals or in their overrun.
static void count_held(void) {
  siginfo_t info;
  struct timespec none = {0, 0};
  while (sigtimedwait(&held, &info, &none) == SIGRTMIN + 5) {
    if (info.si_code != SI_TIMER || info.si_value.sival_int != 55) victim_fail("a blocked signal of a timer has changed");
    seen += 1 + info.si_overrun;
  }
  double expected = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e6 / kBeatMs;
  if ((double)seen < expected - 30 || (double)seen > expected + 30) victim_fail("%ld expirations instead of %.0f", seen, expected);
}

// For the process, and for the main thread. They have gone off, and nobody takes the signal; soon they would again.
static void make_waiting(int which) {
  static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
  static const int ago[] = {600, 100};
  struct sigevent event = {.sigev_notify = which == 0 ? SIGEV_SIGNAL : SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 8 + which};
  struct itimerspec time = {{100, 0}, {0, 0}};
  event._sigev_un._tid = getpid();
  if (waiting[which] == 0) CHECK(timer_create(clocks[which], &event, &waiting[which]) == 0);
  clock_gettime(clocks[which], &time.it_value);
  time.it_value.tv_sec -= ago[which];
  time.it_value.tv_nsec += 300000000;
  if (time.it_value.tv_nsec >= 1000000000) time.it_value.tv_nsec -= 1000000000, ++time.it_value.tv_sec;
  CHECK(timer_settime(waiting[which], TIMER_ABSTIME, &time, NULL) == 0);
}

static void take_waiting(int which) {
  static const int overruns[] = {6, 1};
  struct timespec none = {0, 0};
  siginfo_t info;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 8 + which);
  CHECK(sigtimedwait(&set, &info, &none) == SIGRTMIN + 8 + which);
  CHECK(info.si_code == SI_TIMER && info.si_overrun == overruns[which] && timer_getoverrun(waiting[which]) == overruns[which]);
  CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
  struct itimerspec time;
  CHECK(timer_gettime(waiting[which], &time) == 0 && time.it_interval.tv_sec == 100);
  CHECK(time.it_value.tv_sec > 0);
}

static void check(void) {
  struct itimerspec time;
  expect_ticks("a periodic timer", &beats);
  expect_ticks("a timer that calls a function", &calls);
  expect_ticks("a timer of the process's CPU time", &process_ticks);
  expect_ticks("a timer of a thread's CPU time", &thread_ticks);
  expect_ticks("a timer of its maker's CPU time", &own_ticks);
  expect_ticks("a timer for a thread", &directed_ticks);
  if (wrong_value) victim_fail("a timer has lost its value");
  if (wrong_tid) victim_fail("thread %d has got the signal of another", wrong_tid);
  expect_left("a one-shot timer", once, 0);
  expect_left("a silent timer", silent, 5);
  CHECK(timer_gettime(disarmed, &time) == 0 && time.it_value.tv_sec == 0 && time.it_value.tv_nsec == 0);
  CHECK(timer_getoverrun(late) == 5);
  CHECK(timer_gettime(late, &time) == 0 && time.it_interval.tv_sec == 100 && time.it_value.tv_sec < 51);
  count_held();
  victim_sleep_ms(400);
  for (int which = 0; which < 2; ++which) {
    take_waiting(which);
    make_waiting(which);
  }
}

static void on(int number, void (*handler)(int), void (*action_handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {.sa_flags = SA_RESTART};
  action.sa_handler = handler;
  if (action_handler != NULL) action.sa_sigaction = action_handler, action.sa_flags |= SA_SIGINFO;
  sigaction(number, &action, NULL);
}

// The sixth expiration is the last one that is told; the next comes in half a minute and more.
static void make_late(void) {
  late = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 6, NULL);
  struct itimerspec time = {{100, 0}, {0, 0}};
  clock_gettime(CLOCK_REALTIME, &time.it_value);
  time.it_value.tv_sec -= 550;
  CHECK(timer_settime(late, TIMER_ABSTIME, &time, NULL) == 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 6);
  siginfo_t info;
  CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 6 && info.si_overrun == 5);
}

int main(void) {
  on(SIGRTMIN + 1, NULL, on_beat);
  on(SIGRTMIN + 2, on_process_time, NULL);
  on(SIGRTMIN + 3, on_thread_time, NULL);
  on(SIGRTMIN + 4, on_directed, NULL);
  on(SIGRTMIN + 7, on_own_time, NULL);
  sigemptyset(&held);
  sigaddset(&held, SIGRTMIN + 5);
  sigaddset(&held, SIGRTMIN + 6);
  sigset_t blocked = held;
  sigaddset(&blocked, SIGRTMIN + 8);
  sigaddset(&blocked, SIGRTMIN + 9);
  pthread_sigmask(SIG_BLOCK, &blocked, NULL);
  pthread_t thread = start_thread(burn, NULL);
  while (directed_tid == 0) victim_sleep_ms(1);
  clockid_t clock;
  CHECK(pthread_getcpuclockid(thread, &clock) == 0);

  // Ids with gaps.
  timer_t gone = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL);
  beat = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, (void*)&beats);
  timer_delete(gone);
  once = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGTERM, NULL);
  for (int i = 0; i < 100; ++i) timer_delete(make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL));
  silent = make(CLOCK_BOOTTIME, SIGEV_NONE, 0, NULL);
  disarmed = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGTERM, NULL);
  directed = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 4, NULL);
  called = make(CLOCK_MONOTONIC, SIGEV_THREAD, 0, (void*)&calls);
  process_time = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 2, NULL);
  thread_time = make(clock, SIGEV_SIGNAL, SIGRTMIN + 3, NULL);
  counted = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 5, (void*)55);
  make_late();
  for (int which = 0; which < 2; ++which) make_waiting(which);
  start = now_ns(CLOCK_MONOTONIC);
  set(beat, kBeatMs, kBeatMs);
  set(once, kLong * 1000, 0);
  set(silent, kLong * 1000, 5000);
  set(directed, kBeatMs, kBeatMs);
  set(called, kBeatMs, kBeatMs);
  set(process_time, kBeatMs, kBeatMs);
  set(thread_time, kBeatMs, kBeatMs);
  set(own_time, kBeatMs, kBeatMs);
  set(counted, kBeatMs, kBeatMs);
  victim_wait(check);
  if (victim_broken()) set(once, 2 * kLong * 1000, 0);
  check();
  // They are still the ones that can be changed and deleted, and further ones get other ids.
  timer_t another = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL);
  timer_t* const all[] = {&beat, &once, &silent, &disarmed, &directed, &process_time, &thread_time, &own_time, &counted, &late, &another};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i) {
    for (size_t j = 0; j < i; ++j) CHECK(*all[i] != *all[j]);
    CHECK(timer_delete(*all[i]) == 0);
  }
  CHECK(timer_delete(called) == 0);
  end = 1;
  join_thread(thread);
  victim_pass();
}
