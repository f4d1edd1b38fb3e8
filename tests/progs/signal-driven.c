// Descriptors that raise signals: O_ASYNC with its owner (the process, a thread) and its signal, and an owner without O_ASYNC.
#include "victim.h"

static int ends[2], quiet[2];
static volatile int got, got_fd, got_tid;
static pid_t thread_id;
static volatile int is_over;

static void on_signal(int signal, siginfo_t* info, void* context) {
  (void)context;
  got_fd = info->si_fd;
  got_tid = (int)syscall(SYS_gettid);
  got = signal;
}

static void* thread_body(void* argument) {
  __atomic_store_n(&thread_id, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
  while (!is_over) victim_sleep_ms(5);
  return argument;
}

static void check(void) {
  char byte;
  struct f_owner_ex owner = {0, 0};
  CHECK(fcntl(quiet[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PID && owner.pid == getpid());
  CHECK(fcntl(quiet[0], F_GETSIG) == 0 && (fcntl(quiet[0], F_GETFL) & O_ASYNC) == 0);
  CHECK(fcntl(ends[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == thread_id);
  CHECK(fcntl(ends[0], F_GETSIG) == SIGRTMIN + 4 && (fcntl(ends[0], F_GETFL) & O_ASYNC) != 0);
  got = 0;
  CHECK(write(ends[1], "x", 1) == 1);
  for (int i = 0; got == 0 && i < 5000; ++i) victim_sleep_ms(1);
  if (got != SIGRTMIN + 4 || got_fd != ends[0] || got_tid != thread_id) victim_fail("signal %d, descriptor %d, thread %d", got, got_fd, got_tid);
  CHECK(read(ends[0], &byte, 1) == 1);
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  CHECK(sigaction(SIGRTMIN + 4, &action, NULL) == 0);
  pthread_t thread = start_thread(thread_body, NULL);
  while (__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE) == 0) victim_sleep_ms(1);
  CHECK(pipe(ends) == 0 && pipe(quiet) == 0 && fcntl(quiet[0], F_SETOWN, getpid()) == 0);
  struct f_owner_ex owner = {F_OWNER_TID, thread_id};
  CHECK(fcntl(ends[0], F_SETOWN_EX, &owner) == 0 && fcntl(ends[0], F_SETSIG, SIGRTMIN + 4) == 0);
  CHECK(fcntl(ends[0], F_SETFL, fcntl(ends[0], F_GETFL) | O_ASYNC) == 0);
  victim_wait(check);
  if (victim_broken()) CHECK(fcntl(ends[0], F_SETSIG, 0) == 0);
  check();
  is_over = 1;
  join_thread(thread);
  victim_pass();
}
