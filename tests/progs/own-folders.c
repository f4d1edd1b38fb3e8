// Threads with a working directory and a umask of their own (CLONE_FS), beside threads that share the process's: each stays where
// it is, and what one changes the others do not see, or do.
#include "victim.h"

#include <sched.h>

enum { kThreads = 4 };  // 0 is the main one; 3 shares with it

static const char* const folders[kThreads] = {"main", "first", "second", "main"};
static const mode_t masks[kThreads] = {022, 077, 007, 022};
static pthread_barrier_t start, finish;
static volatile int end, moved;

static void look(size_t self) {
  char path[4096];
  const char* folder = moved && (self == 0 || self == 3) ? "moved" : folders[self];
  if (getcwd(path, sizeof path) == NULL || strcmp(strrchr(path, '/') + 1, folder) != 0)
    victim_fail("thread %zu is in %s instead of %s", self, path, folder);
  mode_t mask = umask(masks[self]);
  if (mask != masks[self]) victim_fail("thread %zu has umask %o", self, mask);
}

static void* body(void* argument) {
  size_t self = (uintptr_t)argument;
  if (self != 3) {
    CHECK(unshare(CLONE_FS) == 0);
    CHECK(chdir(victim_path(folders[self])) == 0);
    umask(masks[self]);
  }
  for (;;) {
    pthread_barrier_wait(&start);
    if (end) return argument;
    look(self);
    pthread_barrier_wait(&finish);
  }
}

static void check(void) {
  pthread_barrier_wait(&start);
  look(0);
  pthread_barrier_wait(&finish);
}

int main(void) {
  pthread_barrier_init(&start, NULL, kThreads);
  pthread_barrier_init(&finish, NULL, kThreads);
  for (int i = 0; i < 3; ++i) CHECK(mkdir(victim_path(folders[i]), 0700) == 0);
  CHECK(mkdir(victim_path("moved"), 0700) == 0 && chdir(victim_path("main")) == 0);
  umask(masks[0]);
  pthread_t threads[kThreads];
  for (uintptr_t i = 1; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  check();
  victim_wait(check);
  if (victim_broken()) umask(0);
  check();
  CHECK(chdir(victim_path("moved")) == 0);
  moved = 1;
  check();
  end = 1;
  pthread_barrier_wait(&start);
  for (int i = 1; i < kThreads; ++i) join_thread(threads[i]);
  victim_pass();
}
