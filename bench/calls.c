// calls NOTHING [NAME...]: the cost of calls that a runtime could get in the way of, one line each: NAME and nanoseconds a call,
// the best of some batches, for what else runs here only adds. NOTHING is the program for fork + exec. Run natively and under
// ckpt-launch by turns.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/clock.h"

enum { kBatches = 15 };

static const char* nothing;
static int ends[2];

static void check(int is_good, const char* what) {
  if (is_good) return;
  perror(what);
  exit(1);
}

static void open_close(void) {
  const int fd = open("/dev/null", O_RDONLY);
  check(fd >= 0 && close(fd) == 0, "open");
}

static void pipe_write_read(void) {
  char byte = 0;
  check(write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1, "pipe");
}

static void map_unmap(void) {
  void* area = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(area != MAP_FAILED && munmap(area, 65536) == 0, "mmap");
}

static void mask(void) {
  sigset_t set;
  sigset_t old;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  check(sigprocmask(SIG_BLOCK, &set, &old) == 0 && sigprocmask(SIG_SETMASK, &old, NULL) == 0, "sigprocmask");
}

static void handler(int number) { (void)number; }

static void action(void) {
  struct sigaction action;
  struct sigaction old;
  memset(&action, 0, sizeof(action));
  action.sa_handler = handler;
  check(sigaction(SIGUSR1, &action, &old) == 0 && sigaction(SIGUSR1, &old, NULL) == 0, "sigaction");
}

static void* thread(void* argument) { return argument; }

static void create_join(void) {
  pthread_t id;
  check(pthread_create(&id, NULL, thread, NULL) == 0 && pthread_join(id, NULL) == 0, "pthread_create");
}

static void fork_wait(void) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  check(child > 0 && waitpid(child, NULL, 0) == child, "fork");
}

static void fork_exec(void) {
  const pid_t child = fork();
  if (child == 0) {
    execl(nothing, nothing, (char*)NULL);
    _exit(127);
  }
  int status = 0;
  check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "fork and exec");
}

static const struct {
  const char* name;
  void (*call)(void);
  int count;  // calls in a batch: about two milliseconds
} kRows[] = {{"open+close", open_close, 2000}, {"pipe-write+read", pipe_write_read, 3000},
             {"mmap+munmap", map_unmap, 2000}, {"sigprocmask", mask, 8000},
             {"sigaction", action, 8000},      {"pthread-create+join", create_join, 100},
             {"fork+wait", fork_wait, 15},     {"fork+exec", fork_exec, 6}};

static double measure(void (*call)(void), int count) {
  double best = 0;
  call();
  for (int batch = 0; batch < kBatches; ++batch) {
    const int64_t begin = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < count; ++i) call();
    const double time = (double)(now_ns(CLOCK_MONOTONIC) - begin) / count;
    if (batch == 0 || time < best) best = time;
  }
  return best;
}

static int is_wanted(const char* name, int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    if (strcmp(name, argv[i]) == 0) return 1;
  }
  return argc <= 2;
}

// On one CPU: whether a new thread or process wakes up here or elsewhere makes a difference of a half, by chance.
static void stay_here(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(sched_getcpu(), &set);
  check(sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
}

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: calls NOTHING [NAME...]\n");
    return 2;
  }
  nothing = argv[1];
  stay_here();
  check(pipe(ends) == 0, "pipe");
  for (size_t i = 0; i < sizeof(kRows) / sizeof(kRows[0]); ++i) {
    if (is_wanted(kRows[i].name, argc, argv)) printf("%s %.1f\n", kRows[i].name, measure(kRows[i].call, kRows[i].count));
  }
  return 0;
}
