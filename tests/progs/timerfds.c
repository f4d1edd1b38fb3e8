// Timers that are read: time left, interval, unread ticks, absolute and relative, every clock, shared, one that a thread waits for.
#include "victim.h"

#include <poll.h>
#include <sys/timerfd.h>

static int alarm_at, stopped, far_off, periodic, ticked, disarmed, real, real_at, boot, once_shared, once_copy, awaited, huge;
static long long deadline;

static int make(int clock, int flags, int settime_flags, long long value_ns, long long interval_ns) {
  int fd = timerfd_create(clock, flags);
  struct itimerspec time = {{interval_ns / 1000000000, interval_ns % 1000000000}, {value_ns / 1000000000, value_ns % 1000000000}};
  if (fd < 0 || timerfd_settime(fd, settime_flags, &time, NULL) != 0) victim_fail("timerfd: %s", strerror(errno));
  return fd;
}

static long long left_ns(int fd, long long* interval) {
  struct itimerspec time;
  CHECK(timerfd_gettime(fd, &time) == 0);
  if (interval != NULL) *interval = time.it_interval.tv_sec * 1000000000LL + time.it_interval.tv_nsec;
  return time.it_value.tv_sec * 1000000000LL + time.it_value.tv_nsec;
}

static void expect_left(int fd, long long low_s, long long high_s, long long interval_s) {
  long long interval, left = left_ns(fd, &interval);
  if (left < low_s * 1000000000 || left > high_s * 1000000000 || interval != interval_s * 1000000000)
    victim_fail("timer %d: %lld ns left, interval %lld", fd, left, interval);
}

static void check(void) {
  expect_left(far_off, 900, 1000, 0);
  expect_left(real, 900, 1000, 30);
  expect_left(real_at, 900, 1000, 0);
  expect_left(boot, 1900, 2000, 70);
  if (alarm_at >= 0) expect_left(alarm_at, 900, 1000, 70);
  expect_left(huge, 3000000000LL, 4000000001LL, 0);
  expect_left(disarmed, 0, 0, 0);
  expect_left(stopped, 0, 0, 5);
  uint64_t count = 0;
  CHECK(read(disarmed, &count, 8) == -1 && errno == EAGAIN);
  // It ticks by the monotonic clock: no tick is lost, and none comes for the time in which the program was not there.
  long long wanted = left_ns(far_off, NULL);
  if (wanted > deadline - now_ns(CLOCK_MONOTONIC) + 1000000) victim_fail("a deadline moved");
  struct pollfd entry = {once_copy, POLLIN, 0};
  CHECK(poll(&entry, 1, 0) == 1);
  CHECK((fcntl(disarmed, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(far_off, F_GETFL) & O_NONBLOCK) == 0);
  CHECK(fcntl(far_off, F_GETFD) == FD_CLOEXEC && fcntl(disarmed, F_GETFD) == 0);
}

static void* wait_body(void* argument) {
  uint64_t count = 0;
  if (read(awaited, &count, 8) != 8 || count != 1) victim_fail("the waiting reader: %s", strerror(errno));
  if (now_ns(CLOCK_MONOTONIC) < *(long long*)argument) victim_fail("the waiting reader woke up early");
  return NULL;
}

int main(void) {
  static long long awaited_until;
  uint64_t count = 0;
  deadline = now_ns(CLOCK_MONOTONIC) + 1000000000000LL;
  far_off = make(CLOCK_MONOTONIC, TFD_CLOEXEC, TFD_TIMER_ABSTIME, deadline, 0);
  real = make(CLOCK_REALTIME, 0, 0, 1000000000000LL, 30000000000LL);
  real_at = make(CLOCK_REALTIME, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, now_ns(CLOCK_REALTIME) + 1000000000000LL, 0);
  // Of root, and where alarms are known.
  alarm_at = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);
  if (alarm_at >= 0) {
    close(alarm_at);
    alarm_at = make(CLOCK_BOOTTIME_ALARM, 0, 0, 1000000000000LL, 70000000000LL);
  }
  boot = make(CLOCK_BOOTTIME, 0, 0, 2000000000000LL, 70000000000LL);
  huge = make(CLOCK_MONOTONIC, 0, 0, 4000000000000000000LL, 0);
  stopped = make(CLOCK_MONOTONIC, 0, 0, 0, 5000000000LL);
  disarmed = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 0, 0);
  once_shared = make(CLOCK_MONOTONIC, 0, 0, 1, 0);
  once_copy = dup(once_shared);
  // Three ticks are there, and then it stands still for long: the next is due in 1000 s.
  ticked = make(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 1, 1000000);
  periodic = make(CLOCK_MONOTONIC, 0, 0, 10000000, 10000000);
  long long begin = now_ns(CLOCK_MONOTONIC);
  victim_sleep_ms(5);
  awaited_until = now_ns(CLOCK_MONOTONIC) + 1500000000;
  awaited = make(CLOCK_MONOTONIC, 0, TFD_TIMER_ABSTIME, awaited_until, 0);
  pthread_t thread = start_thread(wait_body, &awaited_until);
  victim_wait(check);
  if (victim_broken()) CHECK(read(once_shared, &count, 8) == 8);
  check();
  join_thread(thread);
  CHECK(read(once_shared, &count, 8) == 8 && count == 1);
  long long before = (now_ns(CLOCK_MONOTONIC) - begin) / 10000000;
  CHECK(read(periodic, &count, 8) == 8);
  long long after = (now_ns(CLOCK_MONOTONIC) - begin) / 10000000;
  if ((long long)count < before - 1 || (long long)count > after + 1)
    victim_fail("%llu ticks of the periodic timer, wanted %lld", (unsigned long long)count, before);
  before = (now_ns(CLOCK_MONOTONIC) - begin) / 1000000;
  CHECK(read(ticked, &count, 8) == 8);
  if ((long long)count < before - 2) victim_fail("only %llu ticks, wanted %lld", (unsigned long long)count, before);
  victim_pass();
}
