// Contexts of Linux AIO: what has not been fetched stays, in its order; more can be asked for; one with a ring of several pages;
// one that was filled and fetched many times over. A child that a fork leaves with a ring and without a context. With "in-flight":
// a request that ends when the file `end-now` is there.
#include "victim.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/wait.h>

enum { kWaiting = 3 };

static aio_context_t small, large;
static int zero, mail[2];
static uint64_t next_asked = 1, next_fetched = 1;
static pid_t child;

static void ask(aio_context_t context, uint64_t data) {
  static char bytes[8];
  struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD,
                         .aio_fildes = (uint32_t)zero,
                         .aio_buf = (uintptr_t)bytes,
                         .aio_nbytes = data % 8,
                         .aio_data = data};
  struct iocb* list[] = {&request};
  CHECK(syscall(SYS_io_submit, context, 1, list) == 1);
}

static struct io_event fetch(aio_context_t context) {
  struct io_event event = {0};
  struct timespec none = {0, 0};
  CHECK(syscall(SYS_io_getevents, context, 1, 1, &event, &none) == 1);
  return event;
}

static void expect_none(aio_context_t context) {
  struct io_event event;
  struct timespec none = {0, 0};
  if (syscall(SYS_io_getevents, context, 0, 1, &event, &none) != 0)
    victim_fail("an event that nobody asked for: %#llx", event.data);
}

static void check(void) {
  for (int i = 0; i < 200; ++i) {
    struct io_event event = fetch(small);
    if (event.data != next_fetched || event.res != (int64_t)(next_fetched % 8))
      victim_fail("event %lld with result %lld instead of %ld", event.data, event.res, (long)next_fetched);
    ++next_fetched;
    ask(small, next_asked++);
  }
  for (int i = 0; i < 3000; ++i) ask(large, (uint64_t)i);
  for (int i = 0; i < 3000; ++i) CHECK(fetch(large).data == (uint64_t)i);
  expect_none(large);
}

static void check_round(void) {
  check();
  CHECK(waitpid(child, NULL, WNOHANG) == 0);
}

static void serve_child(void) {
  struct io_event event;
  while (!victim_exists("go")) {
    if (syscall(SYS_io_getevents, small, 0, 1, &event, NULL) != -1 || errno != EINVAL) _exit(1);
    victim_sleep_ms(5);
  }
  _exit(0);
}

static void wait_for_mail(void) {
  struct iocb request = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = (uint32_t)mail[0], .aio_buf = POLLIN, .aio_data = 99};
  struct iocb* list[] = {&request};
  CHECK(syscall(SYS_io_submit, large, 1, list) == 1);
  victim_ready();
  while (!victim_exists("end-now")) victim_sleep_ms(5);
  CHECK(write(mail[1], "x", 1) == 1);
  while (fetch(large).data != 99) {
  }
  expect_none(large);
}

int main(int argc, char** argv) {
  CHECK((zero = open("/dev/zero", O_RDONLY)) >= 0 && pipe(mail) == 0);
  CHECK(syscall(SYS_io_setup, 10, &small) == 0 && syscall(SYS_io_setup, 4000, &large) == 0);
  while (next_asked <= kWaiting) ask(small, next_asked++);
  if (argc > 1 && strcmp(argv[1], "in-flight") == 0) {
    wait_for_mail();
    victim_wait_rounds(NULL);
    victim_pass();
  }
  if ((child = fork()) == 0) serve_child();
  victim_wait(check_round);
  if (victim_broken()) ask(large, 1);
  check();
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(syscall(SYS_io_destroy, small) == 0 && syscall(SYS_io_destroy, large) == 0);
  victim_pass();
}
