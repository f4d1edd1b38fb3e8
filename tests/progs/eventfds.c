// eventfd counters survive: plain and semaphore, blocking and not, one shared by dup, one that a thread waits for.
#include "victim.h"

#include <poll.h>
#include <sys/eventfd.h>

static int plain, semaphore, shared, shared_too, awaited;

static void expect(int fd, uint64_t wanted) {
  uint64_t value = 0;
  if (read(fd, &value, sizeof value) != sizeof value) victim_fail("descriptor %d: %s", fd, strerror(errno));
  if (value != wanted)
    victim_fail("descriptor %d: %llu instead of %llu", fd, (unsigned long long)value, (unsigned long long)wanted);
}

static void add(int fd, uint64_t value) { CHECK(write(fd, &value, sizeof value) == sizeof value); }

static void* wait_body(void* argument) {
  for (int i = 0; i < 2; ++i) expect(awaited, 7);
  return argument;
}

static void check(void) {
  expect(plain, 123456789012345ULL);
  add(plain, 123456789012345ULL);
  expect(semaphore, 1);
  add(semaphore, 1);
  expect(shared, 5);
  struct pollfd entry = {shared_too, POLLIN, 0};
  if (poll(&entry, 1, 0) != 0) victim_fail("the descriptor and its duplicate have each a counter");
  add(shared_too, 5);
  if ((fcntl(plain, F_GETFL) & O_NONBLOCK) == 0 || (fcntl(semaphore, F_GETFL) & O_NONBLOCK) != 0) victim_fail("flags differ");
  if (fcntl(shared, F_GETFD) != FD_CLOEXEC || fcntl(shared_too, F_GETFD) != 0) victim_fail("descriptor flags differ");
}

int main(void) {
  plain = eventfd(0, EFD_NONBLOCK);
  semaphore = eventfd(3, EFD_SEMAPHORE);
  shared = eventfd(5, EFD_CLOEXEC);
  shared_too = dup(shared);
  awaited = eventfd(0, 0);
  add(plain, 123456789012345ULL);
  pthread_t thread = start_thread(wait_body, NULL);
  victim_wait(check);
  if (victim_broken()) add(plain, 1);
  check();
  for (int i = 0; i < 3; ++i) expect(semaphore, 1);
  struct pollfd entry = {semaphore, POLLIN, 0};
  if (poll(&entry, 1, 0) != 0) victim_fail("the semaphore counts too much");
  add(awaited, 7);
  while (poll(&(struct pollfd){awaited, POLLIN, 0}, 1, 0) != 0) victim_sleep_ms(1);
  add(awaited, 7);
  join_thread(thread);
  victim_pass();
}
