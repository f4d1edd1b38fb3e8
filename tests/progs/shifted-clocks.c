// Clocks that count from the boot go on where they stood, and times given by them mean what they meant: read all the time by the
// vdso and by system call, waited for across the restart and afterwards, in timers, in a child. Also where the machine was started
// anew meanwhile.
#include "victim.h"

#include <linux/futex.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

enum { kClocks = 4 };
static const clockid_t clocks[kClocks] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW};
static int64_t last[kClocks];
static volatile int end;
static volatile int64_t bend;
enum { kMargin = 20000000 };  // ns: the coarse clock stands between ticks

static int64_t by_system_call(clockid_t clock) {
  struct timespec time;
  CHECK(syscall(SYS_clock_gettime, clock, &time) == 0);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void read_clocks(int64_t* before, int64_t most) {
  for (int i = 0; i < kClocks; ++i) {
    int64_t now = now_ns(clocks[i]) - bend;
    int64_t asked = by_system_call(clocks[i]);
    if (asked < now - kMargin || asked > now + most) victim_fail("clock %d: %ld by the vdso, %ld by call", clocks[i], now, asked);
    if (before[i] != 0 && (now < before[i] || now > before[i] + most)) {
      victim_fail("clock %d: from %ld to %ld", clocks[i], before[i], now);
    }
    before[i] = now;
  }
}

enum { kMinute = 60 };
static void* watch(void* argument) {
  while (!end) read_clocks(last, kMinute * 1000000000LL);
  return argument;
}

// Nearly always inside the vdso.
static void* spin(void* argument) {
  int64_t before = 0;
  while (!end) {
    int64_t now = now_ns(CLOCK_MONOTONIC);
    if (now < before) victim_fail("back from %ld to %ld", before, now);
    before = now;
  }
  return argument;
}

static struct timespec in_ms(clockid_t clock, int64_t ms) {
  int64_t time = now_ns(clock) + ms * 1000000;
  return (struct timespec){time / 1000000000, time % 1000000000};
}

static int until_sleep(const struct timespec* time) { return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, time, NULL); }
static int until_semaphore(const struct timespec* time) {
  sem_t never;
  sem_init(&never, 0, 0);
  return sem_clockwait(&never, CLOCK_MONOTONIC, time) == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static int until_futex(const struct timespec* time) {
  uint32_t word = 0;
  long result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, time, NULL, ~0U);
  return result == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static int until_timer(const struct timespec* time) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  struct itimerspec value = {{0, 0}, *time};
  timer_t timer;
  sigset_t set;
  int number;
  event._sigev_un._tid = gettid();
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  CHECK(timer_create(CLOCK_BOOTTIME, &event, &timer) == 0);
  struct timespec boot = in_ms(CLOCK_BOOTTIME, 0);
  struct timespec now = in_ms(CLOCK_MONOTONIC, 0);
  int64_t left = (time->tv_sec - now.tv_sec) * 1000000000LL + time->tv_nsec - now.tv_nsec;
  int64_t due = boot.tv_sec * 1000000000LL + boot.tv_nsec + left;
  value.it_value = (struct timespec){due / 1000000000, due % 1000000000};
  CHECK(timer_settime(timer, TIMER_ABSTIME, &value, NULL) == 0 && sigwait(&set, &number) == 0 && number == SIGUSR1);
  return timer_delete(timer);
}
static int until_timerfd(const struct timespec* time) {
  struct itimerspec value = {{0, 0}, *time};
  uint64_t ticks = 0;
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  CHECK(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &value, NULL) == 0);
  CHECK(read(fd, &ticks, sizeof ticks) == sizeof ticks && ticks == 1);
  return close(fd);
}

// No signal comes but ours, which the set has too.
static int until_signal(const struct timespec* time) {
  sigset_t set;
  sigfillset(&set);
  struct timespec now = in_ms(CLOCK_MONOTONIC, 0);
  int64_t left = (time->tv_sec - now.tv_sec) * 1000000000LL + time->tv_nsec - now.tv_nsec;
  struct timespec span = {left / 1000000000, left % 1000000000};
  return left < 0 || (sigtimedwait(&set, NULL, &span) == -1 && errno == EAGAIN) ? 0 : -1;
}

static const struct {
  const char* name;
  int (*until)(const struct timespec*);
} ways[] = {
    {"clock_nanosleep", until_sleep}, {"sem_clockwait", until_semaphore}, {"futex", until_futex},
    {"timer_settime", until_timer},   {"timerfd_settime", until_timerfd}, {"sigtimedwait", until_signal},
};
enum { kWays = sizeof ways / sizeof *ways };

static void wait_until(size_t way, int64_t ms) {
  struct timespec time = in_ms(CLOCK_MONOTONIC, ms);
  if (ways[way].until(&time) != 0) victim_fail("%s: %s", ways[way].name, strerror(errno));
  int64_t late = now_ns(CLOCK_MONOTONIC) - (time.tv_sec * 1000000000LL + time.tv_nsec);
  if (late < 0 || late > kMinute * 1000000000LL) victim_fail("%s: %ld ns late", ways[way].name, late);
}

// One wait after the other, across whatever comes.
static void* wait_on(void* argument) {
  while (!end) wait_until((size_t)argument, 1500);
  return argument;
}

static int beat, beats;

// Neither a burst nor a pause.
static void keep_beat(void) {
  struct itimerspec left;
  uint64_t ticks = 0;
  CHECK(timerfd_gettime(beat, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_nsec <= 200000000);
  if (read(beat, &ticks, sizeof ticks) == sizeof ticks) {
    CHECK(ticks < kMinute * 5);
    beats += (int)ticks;
  }
}

static void check(void) {
  keep_beat();
  for (size_t way = 0; way < kWays; ++way) wait_until(way, 20);
  CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, (const struct timespec*)8, NULL) == EFAULT);
  pid_t child = fork();
  int status;
  CHECK(child >= 0);
  if (child == 0) {
    read_clocks((int64_t[kClocks]){last[0], last[1], last[2], last[3]}, kMinute * 1000000000LL);
    _exit(7);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void) {
  pthread_t threads[kWays + 2];
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  beat = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec value = {{0, 200000000}, in_ms(CLOCK_MONOTONIC, 200)};
  CHECK(beat >= 0 && timerfd_settime(beat, TFD_TIMER_ABSTIME, &value, NULL) == 0);
  for (size_t i = 0; i < kWays; ++i) threads[i] = start_thread(wait_on, (void*)i);
  threads[kWays] = start_thread(watch, NULL);
  threads[kWays + 1] = start_thread(spin, NULL);
  victim_wait(check);
  if (victim_broken()) bend = 1000000000;
  victim_sleep_ms(100);
  check();
  for (; beats == 0; victim_sleep_ms(10)) keep_beat();
  end = 1;
  for (size_t i = 0; i < kWays + 2; ++i) join_thread(threads[i]);
  victim_pass();
}
