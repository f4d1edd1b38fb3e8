// epoll sets: level, edge and one-shot, fired or not; nested; exclusive; data; an entry whose number was closed, or leads elsewhere by
// now, while a duplicate keeps the file open; two entries of one number; an empty set; a thread that waits.
#include "victim.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static int set, outer, empty, once, edges, waited, wake;
static int level, edge_reported, edge_waiting, fired, armed, fired_pipe[2], exclusive, kept, reused, kept_too, silent_pipe[2], timer;

static int make_event(uint64_t value) {
  int fd = eventfd((unsigned)value, EFD_NONBLOCK);
  CHECK(fd >= 0);
  return fd;
}

static void add(int to, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  if (epoll_ctl(to, EPOLL_CTL_ADD, fd, &event) != 0) victim_fail("EPOLL_CTL_ADD %d: %s", fd, strerror(errno));
}

static void again(int to, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  if (epoll_ctl(to, EPOLL_CTL_MOD, fd, &event) != 0) victim_fail("EPOLL_CTL_MOD %d: %s", fd, strerror(errno));
}

// Exactly these, in any order: (data, events) pairs, ended by data 0.
static void expect(const char* what, int from, ...) {
  struct epoll_event events[32];
  int count = epoll_wait(from, events, 32, 0), wanted = 0;
  va_list pairs;
  va_start(pairs, from);
  for (uint64_t data; (data = va_arg(pairs, uint64_t)) != 0; ++wanted) {
    uint32_t mask = va_arg(pairs, uint32_t);
    int found = 0;
    for (int i = 0; i < count; ++i) found |= events[i].data.u64 == data && events[i].events == mask;
    if (!found) victim_fail("%s: no event %llu with %x among %d", what, (unsigned long long)data, mask, count);
  }
  va_end(pairs);
  for (int i = 0; count != wanted && i < count; ++i)
    fprintf(stderr, "%s: event %llu with %x\n", what, (unsigned long long)events[i].data.u64, events[i].events);
  if (count != wanted) victim_fail("%s: %d events instead of %d", what, count, wanted);
}

static void touch(int fd) {
  uint64_t one = 1;
  CHECK(write(fd, &one, 8) == 8);
}

static void drain(int fd) {
  uint64_t value;
  CHECK(read(fd, &value, 8) == 8);
}

#define END ((uint64_t)0)
#define DATA(value) ((uint64_t)(value))

static void* wait_body(void* argument) {
  struct epoll_event event;
  CHECK(epoll_wait(waited, &event, 1, -1) == 1 && event.data.u64 == 50);
  return argument;
}

static void check(void) {
  // The edge that was reported is not reported again; the other one is, and then stands for the next round.
  expect("set", set, DATA(0x123456789abcdef0), EPOLLIN, DATA(5), EPOLLIN, DATA(6), EPOLLIN, DATA(7), EPOLLIN, END);
  expect("edges", edges, DATA(3), EPOLLIN | EPOLLOUT, END);
  expect("edges", edges, END);
  again(edges, edge_waiting, EPOLLIN | EPOLLOUT | EPOLLET, 3);
  expect("outer", outer, DATA(40), EPOLLIN, END);
  expect("empty", empty, END);
  // One-shot: what has fired is silent until it is armed; what is armed fires once.
  expect("once", once, DATA(11), EPOLLIN, END);
  expect("once", once, END);
  touch(fired);
  expect("once, fired", once, END);
  again(once, fired, EPOLLIN | EPOLLONESHOT, 10);
  expect("once, armed again", once, DATA(10), EPOLLIN, END);
  again(once, armed, EPOLLIN | EPOLLONESHOT, 11);
  CHECK(write(fired_pipe[1], "x", 1) == 1);
  expect("once, pipe", once, DATA(11), EPOLLIN, END);
  again(once, armed, EPOLLIN | EPOLLONESHOT, 11);
  char byte[2];
  CHECK(read(fired_pipe[0], byte, 2) == 1 && byte[0] == 'x');
}

static int fire(int fd, uint64_t data) {
  add(once, fd, EPOLLIN | EPOLLONESHOT, data);
  expect("fire", once, data, EPOLLIN, END);
  return fd;
}

int main(void) {
  struct itimerspec soon = {{0, 0}, {0, 1}}, late = {{0, 0}, {1000, 0}};
  CHECK((set = epoll_create1(EPOLL_CLOEXEC)) >= 0 && (outer = epoll_create1(0)) >= 0 && (empty = epoll_create1(0)) >= 0);
  CHECK((once = epoll_create1(0)) >= 0 && (edges = epoll_create1(0)) >= 0 && (waited = epoll_create1(0)) >= 0);
  // Level-triggered, with all 64 bits of data.
  add(set, level = make_event(1), EPOLLIN, 0x123456789abcdef0);
  // Added by a number that is closed by now, and by one that leads elsewhere.
  int closed = make_event(1);
  kept = fcntl(closed, F_DUPFD, 100);
  add(set, closed, EPOLLIN, 5);
  close(closed);
  CHECK((reused = make_event(1)) == closed);
  kept_too = fcntl(reused, F_DUPFD_CLOEXEC, 200);
  add(set, reused, EPOLLIN, 6);
  close(reused);
  CHECK((reused = make_event(0)) == closed);
  add(set, reused, EPOLLIN, 8);
  add(set, exclusive = make_event(3), EPOLLIN | EPOLLEXCLUSIVE, 7);
  CHECK(pipe(silent_pipe) == 0);
  add(set, silent_pipe[0], EPOLLIN | EPOLLRDHUP | EPOLLPRI, 9);
  // Edges: one reported, one not, one that is not there.
  add(edges, edge_reported = make_event(1), EPOLLIN | EPOLLOUT | EPOLLET, 2);
  expect("edges", edges, DATA(2), EPOLLIN | EPOLLOUT, END);
  add(edges, edge_waiting = make_event(1), EPOLLIN | EPOLLOUT | EPOLLET, 3);
  add(edges, silent_pipe[0], EPOLLIN | EPOLLET, 4);
  // One-shot: fired with something there, fired and drained, armed, and a timer that has fired and runs on.
  fire(make_event(1), 12);
  drain(fired = fire(make_event(1), 10));
  CHECK(pipe(fired_pipe) == 0 && write(fired_pipe[1], "y", 1) == 1);
  fire(fired_pipe[0], 13);
  char byte;
  CHECK(read(fired_pipe[0], &byte, 1) == 1);
  CHECK((timer = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 && timerfd_settime(timer, 0, &soon, NULL) == 0);
  victim_sleep_ms(1);
  fire(timer, 14);
  CHECK(timerfd_settime(timer, 0, &late, NULL) == 0);
  add(once, armed = make_event(1), EPOLLIN | EPOLLONESHOT, 11);
  // Nested.
  add(outer, set, EPOLLIN, 40);
  add(outer, empty, EPOLLIN, 41);
  add(waited, wake = make_event(0), EPOLLIN, 50);
  pthread_t thread = start_thread(wait_body, NULL);
  victim_wait(check);
  if (victim_broken()) again(set, level, EPOLLOUT, 1);
  check();
  // Closing the duplicate ends the entry; the number alone never did.
  close(kept);
  drain(kept_too);
  touch(edge_reported);
  expect("edges, new", edges, DATA(2), EPOLLIN | EPOLLOUT, DATA(3), EPOLLIN | EPOLLOUT, END);
  expect("set, closed", set, DATA(0x123456789abcdef0), EPOLLIN, DATA(7), EPOLLIN, END);
  close(fired_pipe[1]);
  expect("once, hung up", once, DATA(11), EPOLLIN, END);
  touch(wake);
  join_thread(thread);
  victim_pass();
}
