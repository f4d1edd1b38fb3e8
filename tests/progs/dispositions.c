// The disposition of every signal (handler, flags, mask) reads back the same, and the handlers run. The argument "virgin" sets
// none: then every signal must read as the default, as if no runtime were there.
#include "victim.h"

static struct sigaction wanted[65];
static volatile int seen;

static void on_plain(int number) { seen = number; }
static void on_info(int number, siginfo_t* info, void* context) {
  seen = info->si_signo == number && context != NULL ? number : -1;
}

static int is_settable(int number) { return number != SIGKILL && number != SIGSTOP && number != 32 && number != 33; }

static int same_mask(const sigset_t* left, const sigset_t* right) {
  for (int number = 1; number <= 64; ++number) {
    if (is_settable(number) && sigismember(left, number) != sigismember(right, number)) return number;
  }
  return 0;
}

static void check(void) {
  for (int number = 1; number <= 64; ++number) {
    struct sigaction now;
    if (!is_settable(number)) continue;
    CHECK(sigaction(number, NULL, &now) == 0);
    if (now.sa_sigaction != wanted[number].sa_sigaction)
      victim_fail("signal %d: handler %p", number, (void*)(uintptr_t)now.sa_handler);
    if ((now.sa_flags ^ wanted[number].sa_flags) & 0x7fffffff & ~0x04000000) {
      victim_fail("signal %d: flags %#x, not %#x", number, now.sa_flags, wanted[number].sa_flags);
    }
    int wrong = same_mask(&now.sa_mask, &wanted[number].sa_mask);
    if (wrong != 0) victim_fail("signal %d: the mask has %d wrong", number, wrong);
    if (wanted[number].sa_handler == SIG_IGN) CHECK(raise(number) == 0);
    if (wanted[number].sa_handler == SIG_IGN || wanted[number].sa_handler == SIG_DFL) continue;
    seen = 0;
    CHECK(raise(number) == 0);
    if (seen != number) victim_fail("signal %d: its handler saw %d", number, seen);
  }
}

static void set_all(void) {
  for (int number = 1; number <= 64; ++number) {
    struct sigaction* action = &wanted[number];
    if (!is_settable(number)) continue;
    switch (number % 5) {
      case 0:
        action->sa_handler = SIG_IGN;
        break;
      case 1:
        action->sa_handler = SIG_DFL;
        action->sa_flags = SA_NOCLDSTOP | SA_RESTART;
        sigaddset(&action->sa_mask, SIGUSR1);
        break;
      case 2:
        action->sa_sigaction = on_info;
        action->sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
        break;
      case 3:
        action->sa_handler = on_plain;
        action->sa_flags = SA_NODEFER;
        sigaddset(&action->sa_mask, SIGUSR1);
        sigaddset(&action->sa_mask, 1 + number % 30);
        sigaddset(&action->sa_mask, SIGRTMAX);
        break;
      case 4:
        action->sa_handler = on_plain;
        sigfillset(&action->sa_mask);
        break;
    }
    CHECK(sigaction(number, action, NULL) == 0);
  }
  // SIGKILL and SIGSTOP never get into a mask.
}

// What the shell that started the tests ignores (a job in the background: SIGINT and SIGQUIT) stays ignored.
static void expect_inherited(void) {
  char line[256];
  unsigned long long ignored = 0;
  FILE* file = fopen("/proc/self/status", "r");
  CHECK(file != NULL);
  while (fgets(line, sizeof line, file) != NULL) sscanf(line, "SigIgn: %llx", &ignored);
  fclose(file);
  for (int number = 1; number <= 64; ++number) {
    if (is_settable(number) && (ignored >> (number - 1) & 1) != 0) wanted[number].sa_handler = SIG_IGN;
  }
}

int main(int argc, char** argv) {
  int is_virgin = argc > 1 && strcmp(argv[1], "virgin") == 0;
  if (is_virgin) {
    expect_inherited();
  } else {
    set_all();
  }
  // With SIGCHLD handled or ignored nothing else of this program changes: it has no children.
  victim_wait(check);
  if (victim_broken()) signal(SIGWINCH, is_virgin ? SIG_IGN : SIG_DFL);
  check();
  victim_pass();
}
