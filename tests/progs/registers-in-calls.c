// What a program holds in vector registers while it waits survives: the kernel changes rax, rcx and r11 alone, and who makes system
// calls without the C library (Rust's rustix, say) may rely on that. Two threads wait with a time limit, one of them on an alternate
// stack of signals.
#include "victim.h"

#include <pthread.h>
#include <sys/syscall.h>

static unsigned rounds[2], lost;
static long odd_result;

// clock_nanosleep(2) for 2 ms, with a pattern in ymm5. False: it came back with another one.
static int sleep_with_pattern(unsigned seed) {
  struct timespec time = {0, 2000000}, remaining;
  unsigned char before[32], after[32] = {0};
  register struct timespec* last __asm__("r10") = &remaining;
  long result;
  for (unsigned i = 0; i < sizeof before; ++i) before[i] = (unsigned char)(seed * 31 + i * 7 + 1);
  __asm__ volatile("vmovdqu %3, %%ymm5\n\tsyscall\n\tvmovdqu %%ymm5, %1"
                   : "=a"(result), "=m"(after)
                   : "a"(SYS_clock_nanosleep), "m"(before), "D"(CLOCK_MONOTONIC), "S"(0), "d"(&time), "r"(last)
                   : "rcx", "r11", "memory", "xmm5");
  if (result != 0) __atomic_store_n(&odd_result, result, __ATOMIC_RELAXED);
  return memcmp(before, after, sizeof before) == 0;
}

static void* sleep_body(void* index) {
  static char stack[65536];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  const size_t which = (size_t)index;
  if (which == 1) CHECK(sigaltstack(&alternate, NULL) == 0);
  for (unsigned round = 1;; ++round) {
    if (!sleep_with_pattern(round)) __atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&rounds[which], round, __ATOMIC_RELAXED);
  }
  return NULL;
}

static void check(void) {
  for (size_t i = 0; i < 2; ++i) {
    const unsigned before = __atomic_load_n(&rounds[i], __ATOMIC_RELAXED);
    for (int tries = 0; __atomic_load_n(&rounds[i], __ATOMIC_RELAXED) < before + 3; ++tries) {
      if (tries == 2000) victim_fail("thread %zu does not go on", i);
      victim_sleep_ms(5);
    }
  }
  const unsigned count = __atomic_load_n(&lost, __ATOMIC_RELAXED);
  if (count != 0) victim_fail("%u times the registers were lost", count);
  const long result = __atomic_load_n(&odd_result, __ATOMIC_RELAXED);
  if (result != 0) victim_fail("a sleep ended with %ld", result);
}

int main(void) {
  pthread_t thread;
  if (!__builtin_cpu_supports("avx")) return 77;
  for (size_t i = 0; i < 2; ++i) CHECK(pthread_create(&thread, NULL, sleep_body, (void*)i) == 0);
  victim_wait(check);
  if (victim_broken()) __atomic_store_n(&lost, 1, __ATOMIC_RELAXED);
  check();
  victim_pass();
}
