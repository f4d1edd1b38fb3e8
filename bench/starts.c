// starts COUNT NOTHING LAUNCH: times fork, exec and the end of NOTHING, and of LAUNCH NOTHING, by turns. Prints the medians in
// nanoseconds: native, then launched.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/clock.h"

static int64_t time_of(char* const* command) {
  const int64_t begin = now_ns(CLOCK_MONOTONIC);
  const pid_t child = fork();
  if (child == 0) {
    execv(command[0], command);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    fprintf(stderr, "starts: cannot run '%s'\n", command[0]);
    exit(1);
  }
  return now_ns(CLOCK_MONOTONIC) - begin;
}

static int compare(const void* a, const void* b) {
  const int64_t difference = *(const int64_t*)a - *(const int64_t*)b;
  return difference < 0 ? -1 : difference > 0;
}

int main(int argc, char** argv) {
  const int count = argc == 4 ? atoi(argv[1]) : 0;
  if (count < 1) {
    fprintf(stderr, "usage: starts COUNT NOTHING LAUNCH\n");
    return 2;
  }
  char* native[] = {argv[2], NULL};
  char* launched[] = {argv[3], "-q", argv[2], NULL};
  int64_t* times = calloc(2 * (size_t)count, sizeof(*times));
  if (times == NULL) return 1;
  for (int i = -1; i < count; ++i) {  // the first pair only warms the caches
    const int64_t first = time_of(native);
    const int64_t second = time_of(launched);
    if (i < 0) continue;
    times[i] = first;
    times[count + i] = second;
  }
  qsort(times, count, sizeof(*times), compare);
  qsort(times + count, count, sizeof(*times), compare);
  printf("%lld %lld\n", (long long)times[count / 2], (long long)times[count + count / 2]);
  free(times);
  return 0;
}
