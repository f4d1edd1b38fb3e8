// The calls of the vdso: clocks agree with the kernel's own, before and after, also under another kernel. "busy": threads call it
// all the time, so that a checkpoint finds them inside; "inside": without a look at what it says.
#include "victim.h"

#include <sched.h>
#include <sys/time.h>

static volatile int is_over, is_checked;
static volatile uint64_t rounds[4];

static int64_t kernel_ns(clockid_t clock) {
  struct timespec time;
  CHECK(syscall(SYS_clock_gettime, clock, &time) == 0);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void check_clock(clockid_t clock, int64_t slack) {
  int64_t before = kernel_ns(clock);
  int64_t now = now_ns(clock);
  int64_t after = kernel_ns(clock);
  if (now < before - slack || now > after + slack) {
    victim_fail("clock %d: %lld is not between %lld and %lld", clock, (long long)now, (long long)before, (long long)after);
  }
}

static void* call_body(void* argument) {
  volatile uint64_t* count = argument;
  for (int64_t last = 0; !is_over; ++*count) {
    int64_t now = now_ns(CLOCK_MONOTONIC);
    if (is_checked && now < last) victim_fail("the clock went back from %lld to %lld", (long long)last, (long long)now);
    last = now;
  }
  return NULL;
}

static void check(void) {
  check_clock(CLOCK_MONOTONIC, 0);
  check_clock(CLOCK_REALTIME, 0);
  check_clock(CLOCK_BOOTTIME, 0);
  check_clock(CLOCK_MONOTONIC_COARSE, 10000000);
  struct timeval time_of_day;
  CHECK(gettimeofday(&time_of_day, NULL) == 0);
  CHECK(llabs(time_of_day.tv_sec - kernel_ns(CLOCK_REALTIME) / 1000000000) <= 1);
  CHECK(llabs(time(NULL) - kernel_ns(CLOCK_REALTIME) / 1000000000) <= 1);
  struct timespec resolution;
  CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && resolution.tv_nsec == 1);
  int cpu = sched_getcpu();
  CHECK(cpu >= 0 && cpu < 4096);
}

int main(int argc, char** argv) {
  int is_busy = argc > 1;
  is_checked = is_busy && strcmp(argv[1], "busy") == 0;
  pthread_t threads[4];
  for (int i = 0; is_busy && i < 4; ++i) threads[i] = start_thread(call_body, (void*)&rounds[i]);
  victim_wait(check);
  check();
  uint64_t before[4];
  for (int i = 0; i < 4; ++i) before[i] = rounds[i];
  while (is_busy && (rounds[0] == before[0] || rounds[1] == before[1] || rounds[2] == before[2] || rounds[3] == before[3]))
    victim_sleep_ms(1);
  is_over = 1;
  for (int i = 0; is_busy && i < 4; ++i) join_thread(threads[i]);
  if (victim_broken()) victim_fail("sabotage");
  victim_pass();
}
