// A thread takes every signal there is by sigwaitinfo on the full set, as servers do; all others block all. It must get each signal
// of the program's own, and never one that nobody of the program sent.
#include "victim.h"

#include <semaphore.h>

static sem_t received;
static volatile int expected;
static volatile long count;

static void* wait_all(void* argument) {
  sigset_t set;
  sigfillset(&set);
  for (;;) {
    siginfo_t info;
    int number = sigwaitinfo(&set, &info);
    if (number < 0) victim_fail("sigwaitinfo: %s", strerror(errno));
    if (number != expected || info.si_pid != getpid()) {
      victim_fail("signal %d, code %d, from %d; expected %d", number, info.si_code, info.si_pid, expected);
    }
    ++count;
    expected = 0;
    sem_post(&received);
    if (number == SIGTERM) return argument;
  }
}

static void send_and_wait(int number) {
  expected = number;
  CHECK(kill(getpid(), number) == 0);
  int64_t until = now_ns(CLOCK_MONOTONIC) + 20000000000LL;
  struct timespec time = {until / 1000000000, until % 1000000000};
  if (sem_clockwait(&received, CLOCK_MONOTONIC, &time) != 0) victim_fail("signal %d was not received: %s", number, strerror(errno));
}

static void check(void) {
  static const int numbers[] = {SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGURG, SIGIO, SIGWINCH, SIGALRM, SIGCHLD, 34, 40, 64};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; ++i) send_and_wait(numbers[i]);
}

int main(void) {
  sigset_t set;
  sigfillset(&set);
  pthread_sigmask(SIG_SETMASK, &set, NULL);
  sem_init(&received, 0, 0);
  pthread_t thread = start_thread(wait_all, NULL);
  check();
  victim_wait(check);
  if (victim_broken()) kill(getpid(), SIGQUIT);  // of a number that is never expected: it can't merge with another
  check();
  send_and_wait(SIGTERM);
  join_thread(thread);
  victim_pass();
}
