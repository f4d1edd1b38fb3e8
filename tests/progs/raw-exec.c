// A chain of execs by the bare system call, which nobody on the way hears of; then a run of its own. `raw-exec NUMBER`
#include <sys/syscall.h>

#include "victim.h"

extern char** environ;

static long left;

static void check(void) { CHECK(left == 0); }

int main(int argc, char** argv) {
  left = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
  if (left > 0) {
    char number[24];
    snprintf(number, sizeof number, "%ld", left - 1);
    char* arguments[] = {argv[0], number, NULL};
    syscall(SYS_execve, argv[0], arguments, environ);
    victim_fail("it can't be executed again");
  }
  victim_wait(check);
  if (victim_broken()) left = 1;
  check();
  victim_pass();
}
