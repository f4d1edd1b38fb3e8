// A descriptor that reads every signal, of which the program blocks only one: a thread waits in read, one in epoll. Neither may notice
// a signal of ours.
#include "victim.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>

static int everything, watched, set, got_by_read, got_by_epoll;

static void* read_body(void* argument) {
  struct signalfd_siginfo info;
  for (;;) {
    if (read(everything, &info, sizeof info) != sizeof info) victim_fail("read: %s", strerror(errno));
    if (info.ssi_signo == SIGTERM) return argument;
    if (info.ssi_signo != SIGUSR1) victim_fail("signal %u (code %d), which nobody sent", info.ssi_signo, info.ssi_code);
    __atomic_add_fetch(&got_by_read, 1, __ATOMIC_RELEASE);
  }
}

static void* epoll_body(void* argument) {
  struct epoll_event event;
  struct signalfd_siginfo info;
  for (;;) {
    int count = epoll_wait(set, &event, 1, -1);
    if (count != 1) victim_fail("epoll_wait: %d (%s)", count, strerror(errno));
    if (read(watched, &info, sizeof info) != sizeof info) victim_fail("epoll saw a signal that is not there: %s", strerror(errno));
    if (info.ssi_signo == SIGTERM) return argument;
    if (info.ssi_signo != SIGHUP) victim_fail("signal %u, which nobody sent", info.ssi_signo);
    __atomic_add_fetch(&got_by_epoll, 1, __ATOMIC_RELEASE);
  }
}

static pthread_t reader, poller;

static void send(pthread_t thread, int signal, int* counter) {
  int before = __atomic_load_n(counter, __ATOMIC_ACQUIRE);
  CHECK(pthread_kill(thread, signal) == 0);
  while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) == before) victim_sleep_ms(1);
}

static void check(void) {
  send(reader, SIGUSR1, &got_by_read);
  send(poller, SIGHUP, &got_by_epoll);
}

int main(void) {
  sigset_t all, blocked;
  sigfillset(&all);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigaddset(&blocked, SIGHUP);
  sigaddset(&blocked, SIGTERM);
  CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
  CHECK((everything = signalfd(-1, &all, 0)) >= 0 && (watched = signalfd(-1, &all, SFD_NONBLOCK)) >= 0);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK((set = epoll_create1(0)) >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, watched, &event) == 0);
  reader = start_thread(read_body, NULL);
  poller = start_thread(epoll_body, NULL);
  victim_sleep_ms(20);
  victim_wait(check);
  if (victim_broken()) {
    CHECK(pthread_kill(reader, SIGHUP) == 0);
    victim_sleep_ms(1000);
  }
  check();
  CHECK(pthread_kill(reader, SIGTERM) == 0 && pthread_kill(poller, SIGTERM) == 0);
  join_thread(reader);
  join_thread(poller);
  victim_pass();
}
