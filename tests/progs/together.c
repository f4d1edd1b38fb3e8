// A family of ten that shows who of it has gone on: while there is a file `mark`, each leaves a file `ran-<n>`. Sessions, groups
// and a child that has ended make a restart of it longer.
#include "victim.h"

#include <sys/wait.h>

#define ROOM (2 * MIB)
enum { kChildren = 3, kGrandchildren = 2 };

static unsigned char* memory;

static void leave_mark(int number) {
  char name[32];
  if (!victim_exists("mark")) return;
  snprintf(name, sizeof name, "ran-%d", number);
  int fd = open(victim_path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && close(fd) == 0);
}

static int open_file(const char* name) {
  victim_write(name, "text\n");
  return open(victim_path(name), O_RDONLY);
}

static int await_status(pid_t pid) {
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  return status;
}

// The children of each but the first process have its number before theirs.
__attribute__((noreturn)) static void live(int number) {
  pid_t children[kGrandchildren];
  const int count = number < 10 ? kGrandchildren : 0;
  if (number == 1) setsid();
  if (number % 10 == 2) setpgid(0, 0);
  for (int i = 0; i < count; ++i) {
    if ((children[i] = fork()) == 0) live(number * 10 + i + 1);
    CHECK(children[i] > 0);
  }
  pattern_fill(memory, ROOM, (uint64_t)number);
  if (number == 12) CHECK(open_file("opened") >= 0);
  if (number == 22) {
    int fd = open_file("mapped");
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED && close(fd) == 0);
  }
  char name[32], text[32];
  snprintf(name, sizeof name, "there-%d", number);
  snprintf(text, sizeof text, "%d\n", (int)getpid());
  victim_write(name, text);
  while (!victim_exists("go")) {
    leave_mark(number);
    victim_sleep_ms(1);
  }
  for (int i = 0; i < count; ++i) CHECK(await_status(children[i]) == 0);
  CHECK(pattern_holds(memory, ROOM, (uint64_t)number));
  _exit(0);
}

static void await_all(void) {
  for (int i = 1; i <= kChildren; ++i) {
    for (int j = 0; j <= kGrandchildren; ++j) {
      char name[32];
      snprintf(name, sizeof name, "there-%d", j == 0 ? i : i * 10 + j);
      while (!victim_exists(name)) victim_sleep_ms(1);
    }
  }
}

int main(void) {
  pid_t children[kChildren];
  CHECK((memory = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
  for (int i = 0; i < kChildren; ++i) {
    if ((children[i] = fork()) == 0) live(i + 1);
    CHECK(children[i] > 0);
  }
  pid_t ended = fork();
  if (ended == 0) _exit(victim_broken() ? 8 : 7);
  siginfo_t info;
  CHECK(waitid(P_PID, (id_t)ended, &info, WEXITED | WNOWAIT) == 0);
  pattern_fill(memory, ROOM, 0);
  await_all();
  victim_ready();
  for (int round = 1; !victim_exists("go"); victim_sleep_ms(1)) {
    char name[32];
    leave_mark(0);
    snprintf(name, sizeof name, "round-%d", round);
    if (!victim_exists(name)) continue;
    snprintf(name, sizeof name, "done-%d", round++);
    victim_write(name, "done\n");
  }
  for (int i = 0; i < kChildren; ++i) CHECK(await_status(children[i]) == 0);
  CHECK(await_status(ended) == 7 << 8);
  CHECK(pattern_holds(memory, ROOM, 0));
  victim_pass();
}
