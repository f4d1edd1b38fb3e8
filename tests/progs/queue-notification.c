// A process that is to be told of the first message in a POSIX queue (mq_notify): by a signal with a value, once.
#include "victim.h"

#include <mqueue.h>

static mqd_t queue;
static volatile sig_atomic_t told, value, code;

static void on_message(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  ++told;
  value = info->si_value.sival_int;
  code = info->si_code;
}

static void check(void) {
  struct sigevent event = {.sigev_notify = SIGEV_NONE};
  CHECK(!told);
  CHECK(mq_notify(queue, &event) == -1 && errno == EBUSY);  // it is still there
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_message, .sa_flags = SA_SIGINFO};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5, .sigev_value = {.sival_int = 4711}};
  char name[64], text[8192];
  snprintf(name, sizeof name, "/ckpt-notification-%d", getpid());
  CHECK(sigaction(SIGRTMIN + 5, &action, NULL) == 0);
  queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL);
  if (queue < 0 && errno == ENOSYS) return 77;
  CHECK(queue >= 0 && mq_unlink(name) == 0 && mq_notify(queue, &event) == 0);
  victim_wait(check);
  if (victim_broken()) CHECK(mq_notify(queue, NULL) == 0);
  check();
  CHECK(mq_send(queue, "x", 1, 0) == 0 && told == 1 && value == 4711 && code == SI_MESGQ);
  CHECK(mq_receive(queue, text, sizeof text, NULL) == 1 && mq_send(queue, "y", 1, 0) == 0 && told == 1);
  CHECK(mq_receive(queue, text, sizeof text, NULL) == 1 && mq_notify(queue, &event) == 0);
  CHECK(mq_send(queue, "z", 1, 0) == 0 && told == 2);
  victim_pass();
}
