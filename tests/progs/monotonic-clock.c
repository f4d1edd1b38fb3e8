// CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from where they stood: never backwards, and not forwards by the downtime. Readings are
// taken every few milliseconds, through the vdso and by system call. The first argument is the largest step allowed, in seconds.
#include "victim.h"

enum { kClocks = 4 };
static const clockid_t clocks[kClocks] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW};
static const char* const names[kClocks] = {"monotonic", "boottime", "monotonic coarse", "monotonic raw"};
static int64_t last[kClocks];
static double largest_step = 2;
static volatile int end;
static volatile int64_t bend;

static int64_t by_system_call(clockid_t clock) {
  struct timespec time;
  CHECK(syscall(SYS_clock_gettime, clock, &time) == 0);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void read_clocks(void) {
  for (int i = 0; i < kClocks; ++i) {
    int64_t before = by_system_call(clocks[i]);
    int64_t now = now_ns(clocks[i]) - bend;
    int64_t after = by_system_call(clocks[i]);
    // The coarse clock stands between ticks.
    if (now < before - 20000000 || now > after + 20000000) victim_fail("%s: vdso and system call differ", names[i]);
    double step = (double)(now - last[i]) / 1e9;
    if (last[i] != 0 && step < 0) victim_fail("%s went back by %.6f s", names[i], -step);
    if (last[i] != 0 && step > largest_step) victim_fail("%s went on by %.3f s", names[i], step);
    last[i] = now;
  }
}

static void* watch(void* argument) {
  while (!end) {
    read_clocks();
    victim_sleep_ms(2);
  }
  return argument;
}

int main(int argc, char** argv) {
  if (argc > 1) largest_step = strtod(argv[1], NULL);
  pthread_t thread = start_thread(watch, NULL);
  victim_wait(NULL);
  if (victim_broken()) bend = 10000000;
  victim_sleep_ms(100);
  end = 1;
  join_thread(thread);
  victim_pass();
}
