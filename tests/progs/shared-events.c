// Descriptors of events that two processes share: counters, times, masks, watches and epoll sets are those of the description, so
// what one process does with them the other one sees.
#include "members.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int counter, semaphore, timer, signals, watches, set, mail[2], watched;
static struct Member child;

static uint64_t take(int fd) {
  uint64_t value = 0;
  if (read(fd, &value, sizeof value) != sizeof value) victim_fail("descriptor %d: %s", fd, strerror(errno));
  return value;
}

static void add(int fd, uint64_t value) { CHECK(write(fd, &value, sizeof value) == sizeof value); }

static void set_timer(time_t seconds, time_t interval) {
  struct itimerspec times = {{interval, 0}, {seconds, 0}};
  CHECK(timerfd_settime(timer, 0, &times, NULL) == 0);
}

static long timer_left(void) {
  struct itimerspec times;
  CHECK(timerfd_gettime(timer, &times) == 0);
  return times.it_value.tv_sec * 100 + times.it_interval.tv_sec;
}

static void set_mask(int fd, int first, int second) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, first);
  sigaddset(&mask, second);
  CHECK((signals = signalfd(fd, &mask, SFD_NONBLOCK)) >= 0);
}

static int read_signal(void) {
  struct signalfd_siginfo info;
  return read(signals, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

static long obey(int order) {
  struct epoll_event event = {EPOLLIN, {.u64 = 55}};
  switch (order) {
    case 'c':
      return (long)take(counter);
    case 'a':
      return add(counter, 9), 0;
    case 's':
      return (long)take(semaphore);
    case 't':
      return set_timer(3000, 7), 0;
    case 'm':
      return set_mask(signals, SIGRTMIN, SIGRTMIN + 2), 0;
    case 'g':
      return raise(SIGRTMIN + 1), read_signal();
    case 'w':
      return inotify_add_watch(watches, victim_path("second"), IN_CREATE);
    case 'e':
      return epoll_ctl(set, EPOLL_CTL_ADD, mail[0], &event);
  }
  victim_fail("what is '%c'?", order);
}

static void expect(const char* what, long found, long wanted) {
  if (found != wanted) victim_fail("%s: %ld instead of %ld", what, found, wanted);
}

static void expect_event(uint64_t data, int count) {
  struct epoll_event events[4];
  expect("number of events", epoll_wait(set, events, 4, 0), count);
  if (count == 1) expect("event", (long)events[0].data.u64, (long)data);
}

static void check_counters(void) {
  expect("counter", member_do(&child, 'c'), 11);
  member_do(&child, 'a');
  expect("counter of the child", (long)take(counter), 9);
  add(counter, 11);
  expect("semaphore", member_do(&child, 's'), 1);
  add(semaphore, 1);
}

static void check_timer_and_signals(void) {
  long left = timer_left();
  if (left < 100 || left > 3000 * 100 + 7 || left % 100 != 7) victim_fail("the timer has %ld", left);
  set_timer(100, 1);
  member_do(&child, 't');
  left = timer_left();
  if (left < 2900 * 100 || left % 100 != 7) victim_fail("what the child sets the timer to does not show: %ld", left);
  expect("signal of the child", member_do(&child, 'g'), SIGRTMIN + 1);
  member_do(&child, 'm');
  raise(SIGRTMIN + 1);
  expect("signal that is not read any more", read_signal(), 0);
  set_mask(signals, SIGRTMIN, SIGRTMIN + 1);
  expect("signal", read_signal(), SIGRTMIN + 1);
  expect("signal that is read again", member_do(&child, 'g'), SIGRTMIN + 1);
}

static void check_watches(void) {
  char path[8192], buffer[512];
  snprintf(path, sizeof path, "%s/new", victim_path("second"));
  CHECK(close(open(path, O_WRONLY | O_CREAT, 0600)) == 0 && unlink(path) == 0);
  CHECK(read(watches, buffer, sizeof buffer) > 0);
  expect("watch of the child", ((struct inotify_event*)buffer)->wd, watched);
  expect("watch of the child again", member_do(&child, 'w'), watched);
}

static void check_set(void) {
  expect_event(0, 0);
  CHECK(write(mail[1], "m", 1) == 1);
  expect_event(55, 1);
  CHECK(read(mail[0], &(char){0}, 1) == 1);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, mail[0], NULL) == 0);
  expect("the child adds it again", member_do(&child, 'e'), 0);
  expect_event(0, 0);
}

static void check(void) {
  check_counters();
  check_timer_and_signals();
  check_watches();
  check_set();
}

int main(void) {
  CHECK(mkdir(victim_path("second"), 0700) == 0 && pipe(mail) == 0);
  CHECK((counter = eventfd(11, EFD_NONBLOCK)) >= 0 && (semaphore = eventfd(3, EFD_NONBLOCK | EFD_SEMAPHORE)) >= 0);
  CHECK((timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) >= 0 && (watches = inotify_init1(IN_NONBLOCK)) >= 0);
  CHECK((set = epoll_create1(EPOLL_CLOEXEC)) >= 0);
  sigset_t mask;
  sigemptyset(&mask);
  for (int i = 0; i < 3; ++i) sigaddset(&mask, SIGRTMIN + i);
  CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
  set_mask(-1, SIGRTMIN, SIGRTMIN + 1);
  child = member_start(obey);
  member_do(&child, 't');
  CHECK((watched = (int)member_do(&child, 'w')) > 0 && member_do(&child, 'e') == 0);
  check();
  victim_wait(check);
  if (victim_broken()) add(counter, 1);
  check();
  member_end(&child);
  victim_pass();
}
