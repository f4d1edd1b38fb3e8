// Guard pages stay guarded: of a mapping, and below the stack of a thread. A touch is a SIGSEGV at the right address.
#include "victim.h"

#include <setjmp.h>

static sigjmp_buf back;
static void* volatile fault_address;
static char* area;
static char* thread_guard;
static volatile int end;

static void on_fault(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  fault_address = info->si_addr;
  siglongjmp(back, 1);
}

static int faults(volatile char* address, int write) {
  fault_address = NULL;
  if (sigsetjmp(back, 1) == 0) {
    if (write) {
      *address = 1;
    } else {
      (void)*address;
    }
    return 0;
  }
  return fault_address == (void*)address;
}

static void check(void) {
  CHECK(faults(area, 0) && faults(area, 1));
  CHECK(faults(area + PAGE - 1, 1));
  CHECK(faults(area + 17 * PAGE, 0) && faults(area + 17 * PAGE, 1));
  CHECK(pattern_holds(area + PAGE, 16 * PAGE, 9));
  CHECK(faults(thread_guard, 0) && faults(thread_guard, 1));
}

static void* body(void* argument) {
  while (!end) victim_sleep_ms(5);
  return argument;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  area = map_anonymous(18 * PAGE, PROT_NONE);
  CHECK(mprotect(area + PAGE, 16 * PAGE, PROT_READ | PROT_WRITE) == 0);
  pattern_fill(area + PAGE, 16 * PAGE, 9);
  pthread_t thread = start_thread(body, NULL);
  pthread_attr_t attributes;
  CHECK(pthread_getattr_np(thread, &attributes) == 0);
  void* stack;
  size_t stack_size;
  CHECK(pthread_attr_getstack(&attributes, &stack, &stack_size) == 0);
  thread_guard = (char*)stack - PAGE;
  check();
  victim_wait(check);
  if (victim_broken()) mprotect(area, PAGE, PROT_READ | PROT_WRITE);
  check();
  end = 1;
  join_thread(thread);
  victim_pass();
}
