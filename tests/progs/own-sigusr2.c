// A program that uses SIGUSR2 (argument: another number) itself: its handler runs for each of its own signals, by kill, raise and
// pthread_kill, and never for one of ours.
#include "victim.h"

static int number = SIGUSR2;
static volatile long sent, handled, foreign;

static void on_signal(int signal_number, siginfo_t* info, void* context) {
  (void)context;
  if (signal_number == number && info->si_pid == getpid() && (info->si_code == SI_USER || info->si_code == SI_TKILL)) {
    ++handled;
  } else {
    ++foreign;
  }
}

static void send_some(void) {
  for (int i = 0; i < 10; ++i) {
    sent += 3;
    CHECK(kill(getpid(), number) == 0);
    CHECK(raise(number) == 0);
    CHECK(pthread_kill(pthread_self(), number) == 0);
  }
}

static void check(void) {
  send_some();
  if (sent != handled || foreign != 0) victim_fail("%ld sent, %ld handled, %ld foreign", sent, handled, foreign);
  struct sigaction now;
  CHECK(sigaction(number, NULL, &now) == 0);
  CHECK(now.sa_sigaction == on_signal && (now.sa_flags & SA_SIGINFO));
}

int main(int argc, char** argv) {
  if (argc > 1) number = (int)strtol(argv[1], NULL, 10);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  CHECK(sigaction(number, &action, NULL) == 0);
  send_some();
  victim_wait(check);
  if (victim_broken()) ++sent;
  check();
  victim_pass();
}
