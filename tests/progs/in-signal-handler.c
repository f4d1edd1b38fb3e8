// Threads that are inside a signal handler when the checkpoint comes: one on an alternate stack, one on its own, one in a handler
// within a handler. Each must find its locals, return to where it was interrupted, and leave the alternate stack.
#include "victim.h"

#include <semaphore.h>

enum { kStack = 128 * 1024, kLocal = 16 * 1024 };
static char stack_memory[kStack];
static sem_t inside;
static volatile int end;
static __thread int mode;

__attribute__((noinline)) static void stay(uint64_t seed, int on_stack) {
  volatile char local[kLocal];
  pattern_fill(local, kLocal, seed);
  int is_inside = &local[0] >= &stack_memory[0] && &local[0] < stack_memory + kStack;
  CHECK(is_inside == on_stack);
  sem_post(&inside);
  while (!end) victim_sleep_ms(5);
  if (victim_broken() && seed == 2) local[99] ^= 1;
  CHECK(pattern_holds(local, kLocal, seed));
  stack_t stack;
  CHECK(sigaltstack(NULL, &stack) == 0);
  CHECK(on_stack ? (stack.ss_flags & SS_ONSTACK) && stack.ss_sp == stack_memory : !(stack.ss_flags & SS_ONSTACK));
}

static void on_signal(int number) {
  if (number == SIGUSR1 && mode == 2) {
    raise(SIGHUP);
    return;
  }
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, NULL, &now);
  CHECK(sigismember(&now, number) && sigismember(&now, SIGWINCH));
  stay((uint64_t)mode, mode == 1);
}

static void* body(void* argument) {
  mode = (int)(uintptr_t)argument;
  stack_t stack = {.ss_sp = stack_memory, .ss_size = kStack};
  if (mode == 1) CHECK(sigaltstack(&stack, NULL) == 0);
  double value = 1.5 * mode;
  raise(SIGUSR1);
  CHECK(value == 1.5 * mode);
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, NULL, &now);
  CHECK(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGHUP) && !sigismember(&now, SIGWINCH));
  if (mode == 1) {
    CHECK(sigaltstack(NULL, &stack) == 0);
    CHECK(stack.ss_flags == 0 && stack.ss_sp == stack_memory && stack.ss_size == kStack);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[3];
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  sigaddset(&action.sa_mask, SIGWINCH);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  sem_init(&inside, 0, 0);
  for (uintptr_t i = 0; i < 3; ++i) threads[i] = start_thread(body, (void*)i);
  for (int i = 0; i < 3; ++i) CHECK(sem_wait(&inside) == 0);
  victim_wait(NULL);
  end = 1;
  for (int i = 0; i < 3; ++i) join_thread(threads[i]);
  victim_pass();
}
