// Waits with a timeout that a checkpoint falls into end when they should: T after their start by CLOCK_MONOTONIC, as if nothing had
// happened. T in seconds is the first argument. Noise of the machine is allowed for; a timeout that starts afresh is not.
#include "victim.h"

#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/select.h>

static double seconds = 3;
static volatile int bend;

static struct timespec relative(void) {
  return (struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
}

static struct timespec absolute(clockid_t clock) {
  int64_t time = now_ns(clock) + (int64_t)(seconds * 1e9);
  return (struct timespec){time / 1000000000, time % 1000000000};
}

static int by_nanosleep(void) {
  struct timespec time = relative();
  return nanosleep(&time, NULL);
}
static int by_clock_nanosleep(void) {
  struct timespec time = relative();
  return clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}
static int by_clock_nanosleep_abs(void) {
  struct timespec time = absolute(CLOCK_MONOTONIC);
  return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}
static int by_poll(void) { return poll(NULL, 0, (int)(seconds * 1000)); }
static int by_ppoll(void) {
  struct timespec time = relative();
  return ppoll(NULL, 0, &time, NULL);
}
static int by_select(void) {
  struct timeval time = {relative().tv_sec, relative().tv_nsec / 1000};
  return select(0, NULL, NULL, NULL, &time);
}
static int by_pselect(void) {
  struct timespec time = relative();
  return pselect(0, NULL, NULL, NULL, &time, NULL);
}
static int by_futex(void) {
  uint32_t word = 0;
  struct timespec time = relative();
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static int by_sem_clockwait(void) {
  sem_t never;
  sem_init(&never, 0, 0);
  struct timespec time = absolute(CLOCK_MONOTONIC);
  return sem_clockwait(&never, CLOCK_MONOTONIC, &time) == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static int by_cond_clockwait(void) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  struct timespec time = absolute(CLOCK_MONOTONIC);
  pthread_mutex_lock(&mutex);
  while ((errno = pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &time)) == 0) {
  }
  return errno == ETIMEDOUT ? 0 : -1;
}
static int by_sigtimedwait(void) {
  sigset_t set;
  struct timespec time = relative();
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 5);
  return sigtimedwait(&set, NULL, &time) == -1 && errno == EAGAIN ? 0 : -1;
}

static const struct {
  const char* name;
  int (*wait)(void);
} rows[] = {
    {"nanosleep", by_nanosleep},
    {"clock_nanosleep", by_clock_nanosleep},
    {"clock_nanosleep-abs", by_clock_nanosleep_abs},
    {"poll", by_poll},
    {"ppoll", by_ppoll},
    {"select", by_select},
    {"pselect", by_pselect},
    {"futex", by_futex},
    {"sem_clockwait", by_sem_clockwait},
    {"cond_clockwait", by_cond_clockwait},
    {"sigtimedwait", by_sigtimedwait},
};
enum { kRows = sizeof rows / sizeof rows[0] };

static void* body(void* argument) {
  size_t row = (uintptr_t)argument;
  int64_t start = now_ns(CLOCK_MONOTONIC);
  int result = rows[row].wait();
  double took = (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9 + (bend ? 2.5 : 0);
  if (result != 0) victim_fail("%s: %s", rows[row].name, strerror(errno));
  if (took < seconds - 0.02) victim_fail("%s: ended after %.3f s instead of %.1f s", rows[row].name, took, seconds);
  if (took > seconds + 1.5) victim_fail("%s: ended only after %.3f s instead of %.1f s", rows[row].name, took, seconds);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc > 1) seconds = strtod(argv[1], NULL);
  pthread_t threads[kRows];
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 5);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  bend = victim_broken();
  for (uintptr_t i = 0; i < kRows; ++i) threads[i] = start_thread(body, (void*)i);
  victim_sleep_ms(20);
  victim_wait(NULL);
  for (int i = 0; i < kRows; ++i) join_thread(threads[i]);
  victim_pass();
}
