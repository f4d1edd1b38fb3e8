// alone [-t FILE] PROG [ARG...]: becomes PROG with no descriptor above 2, so that nothing of who runs the bench is in its way.
// -t: writes CLOCK_REALTIME in nanoseconds into FILE just before.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/clock.h"

int main(int argc, char** argv) {
  int first = 1;
  const char* stamp = NULL;
  if (argc > 3 && strcmp(argv[1], "-t") == 0) {
    stamp = argv[2];
    first = 3;
  }
  if (argc <= first) {
    fprintf(stderr, "usage: alone [-t FILE] PROG [ARG...]\n");
    return 2;
  }
  syscall(SYS_close_range, 3U, ~0U, 0U);
  if (stamp != NULL) write_number(stamp, now_ns(CLOCK_REALTIME));
  execvp(argv[first], argv + first);
  perror(argv[first]);
  return 127;
}
