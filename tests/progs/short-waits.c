// Threads that are nearly always about to enter a blocking call, or have just left one: each waits for a fraction of a millisecond,
// again and again, by libc's functions and by syscall(2), or sends blocks that need several wake-ups. So a stop signal often meets
// a call that nobody could see coming. No wait may read EINTR, no send may come back short.
#include "victim.h"

#include <poll.h>
#include <sys/socket.h>

#define FUTEX_WAIT_PRIVATE 128  // linux/futex.h, which musl-gcc does not find

enum { kBlock = 1 << 18 };

static volatile int end;
static volatile long waits;
static const struct timespec short_time = {0, 150000};
static uint32_t word;
static int ends[2];

static int by_nanosleep(void) { return nanosleep(&short_time, NULL); }
static int by_ppoll(void) { return ppoll(NULL, 0, &short_time, NULL); }
static int by_poll(void) { return poll(NULL, 0, 1); }
static int by_raw_nanosleep(void) { return (int)syscall(SYS_nanosleep, &short_time, NULL); }
static int by_raw_poll(void) { return (int)syscall(SYS_poll, NULL, 0, 1); }
static int by_raw_futex(void) {
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &short_time, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static int by_send(void) {
  static char block[kBlock];
  ssize_t count = send(ends[1], block, kBlock, MSG_NOSIGNAL);
  if (count >= 0 && count != kBlock) victim_fail("send: %zd instead of %d", count, kBlock);
  return count < 0 ? -1 : 0;
}

static const struct {
  const char* name;
  int (*wait)(void);
} ways[] = {
    {"nanosleep", by_nanosleep}, {"ppoll", by_ppoll},         {"poll", by_poll}, {"raw nanosleep", by_raw_nanosleep},
    {"raw poll", by_raw_poll},   {"raw futex", by_raw_futex}, {"send", by_send},
};
enum { kWays = sizeof ways / sizeof *ways };

static void* body(void* argument) {
  size_t way = (size_t)argument;
  while (!end) {
    if (ways[way].wait() != 0) victim_fail("%s: %s", ways[way].name, strerror(errno));
    __atomic_add_fetch(&waits, 1, __ATOMIC_RELAXED);
  }
  return argument;
}

static void* read_all(void* argument) {
  char buffer[4096];
  while (recv(ends[0], buffer, sizeof buffer, 0) > 0) {
  }
  return argument;
}

static void ignore(int signal) { (void)signal; }

static void interrupt(pthread_t thread) {
  struct sigaction action = {.sa_handler = ignore};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0 && pthread_kill(thread, SIGALRM) == 0);
  victim_sleep_ms(1);
}

int main(void) {
  pthread_t threads[kWays];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  pthread_t reader = start_thread(read_all, NULL);
  for (size_t i = 0; i < kWays; ++i) threads[i] = start_thread(body, (void*)i);
  victim_wait(NULL);
  for (int i = 0; victim_broken() && i < 1000; ++i) interrupt(threads[i % kWays]);
  for (int i = 0; waits < 100 && i < 20000; ++i) victim_sleep_ms(1);
  end = 1;
  for (size_t i = 0; i < kWays; ++i) join_thread(threads[i]);
  shutdown(ends[1], SHUT_WR);
  join_thread(reader);
  if (waits < 100) victim_fail("only %ld waits", waits);
  victim_pass();
}
