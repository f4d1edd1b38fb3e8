// A thread blocked in epoll_wait sees no EINTR and no early return; events on its set still arrive afterwards.
#include "victim.h"

#include <sys/epoll.h>

static int set, input;
static pthread_t thread;

static void* body(void* argument) {
  struct epoll_event event;
  int count = epoll_wait(set, &event, 1, -1);
  // The harness writes after it has made `go`.
  if (!victim_exists("go") || victim_broken()) victim_fail("epoll_wait returned %d before its time (%s)", count, strerror(errno));
  CHECK(count == 1 && event.data.u64 == 4711 && (event.events & EPOLLIN));
  return argument;
}

int main(void) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 4711};
  // Standard input is a FIFO of the harness, which writes into it after `go`.
  input = 0;
  CHECK((set = epoll_create1(EPOLL_CLOEXEC)) >= 0);
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, input, &event) == 0);
  thread = start_thread(body, NULL);
  victim_sleep_ms(20);
  victim_wait(NULL);
  join_thread(thread);
  victim_pass();
}
