// Signals that are read: the mask, shared by dup, in an epoll set, a pending signal with its value, and one for everything, which must
// never show a signal that the program did not send itself.
#include "victim.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

static int chosen, copy, everything, set, queued;
static pthread_t reader;

static int make(int flags, int first, ...) {
  sigset_t mask;
  va_list more;
  sigemptyset(&mask);
  va_start(more, first);
  for (int signal = first; signal != 0; signal = va_arg(more, int)) sigaddset(&mask, signal);
  va_end(more);
  int fd = signalfd(-1, &mask, flags);
  CHECK(fd >= 0);
  return fd;
}

static void expect(int fd, int signal, int value) {
  struct signalfd_siginfo info;
  CHECK(read(fd, &info, sizeof info) == sizeof info);
  if ((int)info.ssi_signo != signal || info.ssi_int != value || info.ssi_pid != (uint32_t)getpid())
    victim_fail("signal %u with %d instead of %d with %d", info.ssi_signo, info.ssi_int, signal, value);
}

static void send(int signal, int value) { CHECK(sigqueue(getpid(), signal, (union sigval){.sival_int = value}) == 0); }

// Takes all signals that are unblocked nowhere: SIGUSR1 of a round, and in the end SIGTERM.
static void* read_all(void* argument) {
  struct signalfd_siginfo info;
  for (int last = 0;;) {
    if (read(everything, &info, sizeof info) != sizeof info) victim_fail("reading all signals: %s", strerror(errno));
    if (info.ssi_signo == SIGTERM) return argument;
    if (info.ssi_signo != SIGUSR1 || info.ssi_int != last + 1)
      victim_fail("signal %u (code %d, value %d), which nobody sent", info.ssi_signo, info.ssi_code, info.ssi_int);
    __atomic_store_n(&queued, ++last, __ATOMIC_RELEASE);
  }
}

static void check(void) {
  static int round;
  expect(chosen, SIGRTMIN + 5, 4711);
  struct epoll_event event;
  CHECK(epoll_wait(set, &event, 1, 0) == 0);
  send(SIGRTMIN + 5, 4711);
  CHECK(epoll_wait(set, &event, 1, 0) == 1 && event.data.u32 == 99);
  struct pollfd entry = {copy, POLLIN, 0};
  CHECK(poll(&entry, 1, 0) == 1);
  send(SIGUSR1, ++round);
  while (__atomic_load_n(&queued, __ATOMIC_ACQUIRE) != round) victim_sleep_ms(1);
}

int main(void) {
  sigset_t all;
  sigfillset(&all);
  CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
  chosen = make(SFD_CLOEXEC, SIGRTMIN + 5, SIGHUP, 0);
  copy = dup(chosen);
  sigdelset(&all, SIGRTMIN + 5);
  sigdelset(&all, SIGHUP);
  CHECK((everything = signalfd(-1, &all, 0)) >= 0);
  CHECK((set = epoll_create1(0)) >= 0);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = 99};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, copy, &event) == 0);
  send(SIGRTMIN + 5, 4711);
  reader = start_thread(read_all, NULL);
  victim_wait(check);
  if (victim_broken()) send(SIGUSR1, 12345), victim_sleep_ms(1000);
  check();
  expect(copy, SIGRTMIN + 5, 4711);
  send(SIGHUP, 1);
  expect(chosen, SIGHUP, 1);
  send(SIGTERM, 0);
  join_thread(reader);
  victim_pass();
}
