// A program that starts others all the time, by fork, vfork or posix_spawn, from one thread or several: no child is ever lost, and none
// is killed by a signal. Argument: the way; how many threads.
#include "victim.h"

#include <spawn.h>
#include <sys/wait.h>

extern char** environ;
static const char* way;
static volatile long started, is_over;

static pid_t start(void) {
  char* const command[] = {"true", NULL};
  pid_t child = -1;
  if (strcmp(way, "spawn") == 0) {
    CHECK(posix_spawnp(&child, "true", NULL, NULL, command, environ) == 0);
  } else if (strcmp(way, "vfork") == 0) {
    child = vfork();
    if (child == 0) {
      execvp("true", command);
      _exit(99);
    }
  } else {
    child = fork();
    if (child == 0) {
      if (strcmp(way, "fork") == 0) _exit(0);
      execvp("true", command);
      _exit(99);
    }
  }
  return child;
}

static void* work(void* nothing) {
  while (!is_over) {
    int status = -1;
    const pid_t child = start();
    CHECK(child > 0);
    const pid_t ended = waitpid(child, &status, 0);
    if (ended != child || status != 0) victim_fail("child %d: waitpid gave %d, status %x, errno %d", child, ended, status, errno);
    __atomic_add_fetch(&started, 1, __ATOMIC_RELAXED);
  }
  return nothing;
}

static void check(void) {
  const long before = started;
  for (int i = 0; i < 4000 && started < before + 10; ++i) victim_sleep_ms(5);
  CHECK(started >= before + 10);
}

int main(int count, char** arguments) {
  way = count > 1 ? arguments[1] : "exec";
  const int threads = count > 2 ? atoi(arguments[2]) : 1;
  pthread_t workers[16];
  CHECK(threads <= 16);
  for (int i = 0; i < threads; ++i) workers[i] = start_thread(work, NULL);
  victim_wait(check);
  if (victim_broken()) is_over = 1;
  check();
  is_over = 1;
  for (int i = 0; i < threads; ++i) join_thread(workers[i]);
  victim_pass();
}
