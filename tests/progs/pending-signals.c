// Pending signals come back with their siginfo: for the process and for single threads, standard and real-time ones, in their
// order.
#include "victim.h"

#include <semaphore.h>

static sem_t prepared;
static volatile int turn;
static pid_t thread_tid;

static siginfo_t take(int number) {
  sigset_t set;
  siginfo_t info;
  struct timespec none = {0, 0};
  sigemptyset(&set);
  sigaddset(&set, number);
  if (sigtimedwait(&set, &info, &none) != number) victim_fail("signal %d is not pending (%s)", number, strerror(errno));
  if (info.si_pid != getpid() || info.si_uid != getuid()) victim_fail("signal %d is from %d/%u", number, info.si_pid, info.si_uid);
  return info;
}

static void expect_queued(int number, int code, int value) {
  siginfo_t info = take(number);
  if (info.si_code != code || info.si_value.sival_int != value) {
    victim_fail("signal %d: code %d value %d, not %d and %d", number, info.si_code, info.si_value.sival_int, code, value);
  }
}

static void expect_none(void) {
  sigset_t set;
  CHECK(sigpending(&set) == 0);
  for (int number = 1; number <= 64; ++number) {
    if (sigismember(&set, number) == 1) victim_fail("signal %d is pending and should not be", number);
  }
}

static void* body(void* argument) {
  thread_tid = gettid();
  CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 7, (union sigval){.sival_int = 70}) == 0);
  CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 7, (union sigval){.sival_int = 71}) == 0);
  CHECK(raise(SIGHUP) == 0);
  sem_post(&prepared);
  while (turn == 0) victim_sleep_ms(5);
  expect_queued(SIGRTMIN + 7, SI_QUEUE, 70);
  expect_queued(SIGRTMIN + 7, SI_QUEUE, 71);
  take(SIGHUP);
  turn = 2;
  return argument;
}

int main(void) {
  sigset_t set;
  sigfillset(&set);
  pthread_sigmask(SIG_SETMASK, &set, NULL);
  for (int value = 0; value < 20; ++value) CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = value}) == 0);
  for (int value = 0; value < 5; ++value) CHECK(sigqueue(getpid(), SIGRTMAX, (union sigval){.sival_int = 100 + value}) == 0);
  CHECK(kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGINT) == 0);
  CHECK(sigqueue(getpid(), SIGTERM, (union sigval){.sival_int = 55}) == 0);
  CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 2, (union sigval){.sival_int = 20}) == 0);
  sem_init(&prepared, 0, 0);
  pthread_t thread = start_thread(body, NULL);
  CHECK(sem_wait(&prepared) == 0);
  victim_wait(NULL);
  if (victim_broken()) take(SIGRTMIN + 1);
  for (int value = 0; value < 20; ++value) expect_queued(SIGRTMIN + 1, SI_QUEUE, value);
  for (int value = 0; value < 5; ++value) expect_queued(SIGRTMAX, SI_QUEUE, 100 + value);
  CHECK(take(SIGUSR1).si_code == SI_USER && take(SIGINT).si_code == SI_USER);
  expect_queued(SIGTERM, SI_QUEUE, 55);
  expect_queued(SIGRTMIN + 2, SI_QUEUE, 20);
  turn = 1;
  join_thread(thread);
  CHECK(turn == 2);
  expect_none();
  victim_pass();
}
