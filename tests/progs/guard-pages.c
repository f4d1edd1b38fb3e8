// Guard pages stay guarded: of a mapping, below the stack of a thread, and within an area (MADV_GUARD_INSTALL, Linux 6.13). A touch
// is a SIGSEGV at the right address.
#include "victim.h"

#include <setjmp.h>

static sigjmp_buf back;
static void* volatile fault_address;
static char* area;
static char* thread_guard;
static char* light;  // guards that are no areas of their own, by madvise(2): pages 2, 5, 6
static int has_light;
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
  for (int page = 0; page < 8 && has_light; ++page) {
    const int is_guard = page == 2 || page == 5 || page == 6;
    CHECK(is_guard ? faults(light + page * PAGE, 0) && faults(light + page * PAGE, 1)
                   : pattern_holds(light + page * PAGE, PAGE, (unsigned)page));
  }
}

static void prepare_light(void) {
  const int guard_install = 102;
  light = map_anonymous(8 * PAGE, PROT_READ | PROT_WRITE);
  for (int page = 0; page < 8; ++page) pattern_fill(light + page * PAGE, PAGE, (unsigned)page);
  has_light = madvise(light + 2 * PAGE, PAGE, guard_install) == 0;
  CHECK(!has_light || madvise(light + 5 * PAGE, 2 * PAGE, guard_install) == 0);
  CHECK(mprotect(light + 4 * PAGE, 4 * PAGE, PROT_READ) == 0);
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
  prepare_light();
  check();
  victim_wait(check);
  if (victim_broken()) mprotect(area, PAGE, PROT_READ | PROT_WRITE);
  check();
  end = 1;
  join_thread(thread);
  victim_pass();
}
