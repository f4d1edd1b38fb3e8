// The main thread has ended by pthread_exit: the process goes on with the others, among them one that started later.
#include "victim.h"

static pthread_t main_thread;
static volatile int ticks;

static void* tick(void* argument) {
  for (;;) {
    ++ticks;
    victim_sleep_ms(1);
  }
  return argument;
}

static void check(void) {
  char state[512];
  CHECK(getpid() != gettid());
  int before = ticks;
  for (int wait = 0; ticks == before; ++wait) {
    if (wait > 4000) victim_fail("the other thread stands still");
    victim_sleep_ms(1);
  }
  CHECK(read_file("/proc/self/stat", state, sizeof state) > 0);
  if (strstr(state, ") Z ") == NULL) victim_fail("the main thread lives");
}

static void* body(void* argument) {
  join_thread(main_thread);
  start_thread(tick, NULL);
  victim_wait(check);
  if (victim_broken()) victim_fail("sabotage");
  check();
  victim_pass();
  return argument;
}

int main(void) {
  main_thread = pthread_self();
  start_thread(body, NULL);
  pthread_exit(NULL);
}
