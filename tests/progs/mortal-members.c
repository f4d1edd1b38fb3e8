// Processes that end, are killed, or call exec at any time: the first process starts each anew. Those that stay go on counting, and
// the first process never sees a child that it has not started, nor one end by a signal that nobody sent. The file `end-now` asks
// for their ends.
#include "members.h"

enum { kStaying = 3, kMortal = 3 };

static _Atomic uint64_t* counts;
static pid_t staying[kStaying], mortal[kMortal];

__attribute__((noreturn)) static void stay(int index) {
  for (;;) {
    ++counts[index];
    victim_sleep_ms(1);
  }
}

// By turns: exits, is killed by itself, calls exec and sleeps there until it is killed.
__attribute__((noreturn)) static void be_mortal(int turn) {
  while (!victim_exists("end-now")) victim_sleep_ms(1);
  if (turn == 0) _exit(0);
  if (turn == 1) kill(getpid(), SIGKILL);
  execl("/bin/sleep", "sleep", "0.01", NULL);
  _exit(2);
}

static void start_mortal(int index) {
  if ((mortal[index] = fork()) == 0) be_mortal(index);
  CHECK(mortal[index] > 0);
}

static void replace_ended(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) != 0;) {
    CHECK(pid > 0);
    int index = 0;
    while (index < kMortal && mortal[index] != pid) ++index;
    if (index == kMortal) victim_fail("process %d ended, with status %#x: none of those who are to", (int)pid, status);
    if (status != (index == 1 ? SIGKILL : 0)) victim_fail("process %d of kind %d ended with status %#x", (int)pid, index, status);
    unlink(victim_path("end-now"));
    start_mortal(index);
  }
}

static void check(void) {
  for (int i = 0; i < kStaying; ++i) {
    uint64_t before = counts[i];
    for (int turn = 0; counts[i] == before; ++turn) {
      if (turn == 5000) victim_fail("process %d does not count any more", (int)staying[i]);
      victim_sleep_ms(1);
    }
  }
}

int main(void) {
  counts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(counts != MAP_FAILED);
  for (int i = 0; i < kStaying; ++i) {
    if ((staying[i] = fork()) == 0) stay(i);
  }
  for (int i = 0; i < kMortal; ++i) start_mortal(i);
  victim_ready();
  char name[32];
  for (int round = 1; !victim_exists("go");) {
    replace_ended();
    snprintf(name, sizeof name, "round-%d", round);
    if (victim_exists(name)) {
      check();
      snprintf(name, sizeof name, "done-%d", round++);
      victim_write(name, "done\n");
    }
    victim_sleep_ms(1);
  }
  if (victim_broken()) kill(staying[1], SIGKILL);
  victim_sleep_ms(50);
  replace_ended();
  check();
  int status;
  for (int i = 0; i < kStaying; ++i) CHECK(kill(staying[i], SIGKILL) == 0 && waitpid(staying[i], &status, 0) == staying[i]);
  for (int i = 0; i < kMortal; ++i) CHECK(kill(mortal[i], SIGKILL) == 0 && waitpid(mortal[i], &status, 0) == mortal[i]);
  CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  victim_pass();
}
