// Threads that no libc knows: made by clone alone, with their stacks on the heap, one with a thread pointer that is none of libc's
// and one without any, sleeping on a futex and busy; and a thread pointer for gs.
#include "victim.h"

#include <asm/prctl.h>
#include <linux/futex.h>
#include <sched.h>

enum { kStack = 65536 };

static volatile uint32_t word, asked, turns;
static volatile pid_t cleared[3] = {1, 1, 1};
static volatile uint64_t seen_fs, seen_gs;
static uint64_t own_block[64], gs_block[64];

// No libc below: its thread pointer is not there.
static long raw(long number, long a, long b, long c, long d) {
  long result;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}

__attribute__((noinline, no_stack_protector)) static int sleep_body(void* unused) {
  (void)unused;
  raw(SYS_arch_prctl, ARCH_SET_GS, (long)gs_block, 0, 0);
  while (word == 0) raw(SYS_futex, (long)&word, FUTEX_WAIT, 0, 0);
  uint64_t fs, gs;
  __asm__ volatile("mov %%fs:0, %0" : "=r"(fs));
  __asm__ volatile("mov %%gs:8, %0" : "=r"(gs));
  seen_fs = fs;
  seen_gs = gs;
  raw(SYS_exit, 0, 0, 0, 0);
  return 0;
}

__attribute__((noinline, no_stack_protector)) static int busy_body(void* unused) {
  (void)unused;
  raw(SYS_arch_prctl, ARCH_SET_FS, 0, 0, 0);
  while (word == 0) ++turns;
  raw(SYS_exit, 0, 0, 0, 0);
  return 0;
}

__attribute__((noinline, no_stack_protector)) static int wait_body(void* unused) {
  (void)unused;
  raw(SYS_arch_prctl, ARCH_SET_FS, 0, 0, 0);
  while (word == 0) raw(SYS_futex, (long)&word, FUTEX_WAIT, 0, 0);
  raw(SYS_exit, 0, 0, 0, 0);
  return 0;
}

static void check(void) {
  uint32_t before = turns;
  for (int wait = 0; turns == before; ++wait) {
    if (wait > 4000) victim_fail("the busy thread stands still");
    victim_sleep_ms(1);
  }
  if (cleared[0] == 0 || cleared[1] == 0 || cleared[2] == 0) victim_fail("a thread has ended");
}

static void await_end(volatile pid_t* tid) {
  for (int wait = 0; *tid != 0; ++wait) {
    if (wait > 4000) victim_fail("the end of a thread is not told");
    victim_sleep_ms(1);
  }
}

int main(void) {
  const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
  own_block[0] = 0x1234567890;
  gs_block[1] = 0x9876543210;
  char* stacks = malloc(3 * kStack);
  CHECK(clone(sleep_body, stacks + kStack, flags | CLONE_SETTLS, NULL, NULL, own_block, &cleared[0]) > 0);
  CHECK(clone(busy_body, stacks + 2 * kStack, flags, NULL, NULL, NULL, &cleared[1]) > 0);
  CHECK(clone(wait_body, stacks + 3 * kStack, flags, NULL, NULL, NULL, &cleared[2]) > 0);
  victim_sleep_ms(20);
  victim_wait(check);
  if (victim_broken()) gs_block[1] = 0;
  check();
  word = 1;
  CHECK(syscall(SYS_futex, &word, FUTEX_WAKE, 9, NULL) >= 0);
  await_end(&cleared[0]);
  await_end(&cleared[1]);
  await_end(&cleared[2]);
  CHECK(seen_fs == 0x1234567890 && seen_gs == 0x9876543210);
  victim_pass();
}
