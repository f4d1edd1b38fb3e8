// Alternate signal stacks: each thread keeps its own, and handlers run on it afterwards.
#include "victim.h"

#include <semaphore.h>

enum { kThreads = 4, kStack = 64 * 1024 };
static char stacks[kThreads + 1][kStack];
static __thread int self;
static __thread volatile int ran;
static sem_t prepared;
static volatile int end;

static void on_signal(int number) {
  char here;
  ran = number == SIGUSR1 && &here >= stacks[self] && &here < stacks[self] + kStack ? 1 : -1;
}

static void set(int index) {
  self = index;
  stack_t stack = {.ss_sp = stacks[index], .ss_size = kStack};
  CHECK(sigaltstack(&stack, NULL) == 0);
}

static void verify(void) {
  stack_t stack;
  CHECK(sigaltstack(NULL, &stack) == 0);
  CHECK(stack.ss_sp == stacks[self] && stack.ss_size == kStack && stack.ss_flags == 0);
  ran = 0;
  CHECK(raise(SIGUSR1) == 0);
  CHECK(ran == 1);
}

static void* body(void* argument) {
  set((int)(uintptr_t)argument);
  sem_post(&prepared);
  while (!end) victim_sleep_ms(5);
  if (victim_broken() && self == 1) sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
  verify();
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  sem_init(&prepared, 0, 0);
  for (uintptr_t i = 0; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&prepared) == 0);
  set(kThreads);
  victim_wait(verify);
  end = 1;
  for (int i = 0; i < kThreads; ++i) join_thread(threads[i]);
  verify();
  victim_pass();
}
