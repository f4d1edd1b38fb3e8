// Every thread blocks every signal, by sigprocmask, pthread_sigmask or from birth. Argument "raw": by the system call itself, with
// all 64 bits set, past any libc: such a thread cannot be stopped, and the checkpoint must be refused by its name.
#include "victim.h"

#include <semaphore.h>

enum { kThreads = 4 };
static sem_t prepared;
static volatile int end;
static int is_raw;

static void block_all(void) {
  sigset_t set;
  uint64_t all = ~0ULL;
  sigfillset(&set);
  CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
  CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  if (is_raw) CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8) == 0);
}

static void verify(void) {
  sigset_t now;
  CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
  for (int number = 1; number <= 64; ++number) {
    if (number == SIGKILL || number == SIGSTOP || number == 32 || number == 33) continue;
    if (sigismember(&now, number) != 1) victim_fail("signal %d is not blocked", number);
  }
  CHECK(sigpending(&now) == 0);
  for (int number = 1; number <= 64; ++number) {
    // libc's own two: what waits there after a freeze that failed may be libc's, so it can't be discarded.
    if (is_raw && (number == 32 || number == 33)) continue;
    if (sigismember(&now, number) == 1) victim_fail("signal %d is pending, and nobody sent it", number);
  }
}

static void* body(void* argument) {
  if ((uintptr_t)argument % 2 == 0) block_all();
  sem_post(&prepared);
  while (!end) victim_sleep_ms(5);
  verify();
  return NULL;
}

int main(int argc, char** argv) {
  pthread_t threads[kThreads];
  is_raw = argc > 1 && strcmp(argv[1], "raw") == 0;
  sem_init(&prepared, 0, 0);
  block_all();
  for (uintptr_t i = 0; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&prepared) == 0);
  victim_wait(verify);
  if (victim_broken()) raise(SIGUSR1);
  end = 1;
  for (int i = 0; i < kThreads; ++i) join_thread(threads[i]);
  verify();
  victim_pass();
}
