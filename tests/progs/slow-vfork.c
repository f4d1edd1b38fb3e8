// A parent in vfork, which nothing can interrupt, until the child that sleeps before its exec is told to go on.
#include "victim.h"

#include <sys/wait.h>

static volatile pid_t child;

static void* be_slow(void* argument) {
  pid_t pid = vfork();
  if (pid == 0) {
    child = getpid();
    while (!victim_exists("exec-now")) {
      struct timespec moment = {0, 1000000};
      nanosleep(&moment, NULL);
    }
    execl("/bin/true", "true", NULL);
    _exit(1);
  }
  int status;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
  if (status != 0) victim_fail("the child of vfork ended with status %#x", status);
  return argument;
}

int main(void) {
  pthread_t thread = start_thread(be_slow, NULL);
  victim_sleep_ms(100);  // for it to be there; nothing hangs on it
  victim_wait(NULL);
  if (victim_broken()) kill(child, SIGKILL);
  victim_write("exec-now", "now\n");
  join_thread(thread);
  victim_pass();
}
