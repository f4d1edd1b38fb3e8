// Threads that never call the kernel: two count in tight loops, one with a lock-free hand-over to another.
#include "victim.h"

static volatile int end;
static uint64_t counters[2];
static uint64_t turn;

static void* count(void* argument) {
  uint64_t* counter = argument;
  while (!end) __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
  return NULL;
}

// Two threads take turns: each adds one when it is its turn. No addition may be lost or doubled.
static void* take_turns(void* argument) {
  uint64_t parity = (uintptr_t)argument;
  uint64_t additions = 0;
  while (!end) {
    for (int spins = 0; spins < 1000; ++spins) {
      if (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) % 2 == parity) {
        __atomic_add_fetch(&turn, 1, __ATOMIC_ACQ_REL);
        ++additions;
      }
    }
  }
  return (void*)additions;
}

static void check(void) {
  for (int i = 0; i < 2; ++i) {
    uint64_t before = __atomic_load_n(&counters[i], __ATOMIC_RELAXED);
    for (int wait = 0; __atomic_load_n(&counters[i], __ATOMIC_RELAXED) == before; ++wait) {
      if (wait > 2000) victim_fail("counter %d stands still", i);
      victim_sleep_ms(5);
    }
  }
}

int main(void) {
  pthread_t threads[4];
  threads[0] = start_thread(count, &counters[0]);
  threads[1] = start_thread(count, &counters[1]);
  threads[2] = start_thread(take_turns, (void*)0);
  threads[3] = start_thread(take_turns, (void*)1);
  victim_wait(check);
  if (victim_broken()) __atomic_add_fetch(&turn, 2, __ATOMIC_SEQ_CST);
  check();
  end = 1;
  join_thread(threads[0]);
  join_thread(threads[1]);
  uint64_t even = (uintptr_t)join_thread(threads[2]);
  uint64_t odd = (uintptr_t)join_thread(threads[3]);
  CHECK(even + odd == turn);
  victim_pass();
}
