// The child of a child is about to start a program, and takes its time before the first constructor of a library runs: it is of the
// job, and comes.
#include "members.h"

static int ask[2], answer[2];
static pid_t grandchild;

// The kernel has started the program, and the runtime has not begun.
static void linger(int argc, char** argv, char** environment) {
  (void)environment;
  if (argc < 2 || strcmp(argv[1], "slow") != 0) return;
  CHECK(write(4, "s", 1) == 1);
  victim_sleep_ms(700);
}
__attribute__((section(".preinit_array"), used)) static void (*const linger_first)(int, char**, char**) = linger;

static long start(void) {
  CHECK(pipe(ask) == 0 && pipe(answer) == 0);
  grandchild = fork();
  CHECK(grandchild >= 0);
  if (grandchild == 0) {
    int from = fcntl(ask[0], F_DUPFD, 100), to = fcntl(answer[1], F_DUPFD, 100);
    CHECK(dup2(from, 3) == 3 && dup2(to, 4) == 4);
    close_range(5, ~0U, 0);
    execl("/proc/self/exe", "slow-start", "slow", (char*)NULL);
    _exit(4);
  }
  close(ask[0]);
  close(answer[1]);
  char byte = 0;
  return read(answer[0], &byte, 1) == 1 && byte == 's';
}

static long obey(int order) {
  char byte = 0;
  int status = 0;
  switch (order) {
    case 's':
      return start();
    case 'c':
      return write(ask[1], "c", 1) == 1 && read(answer[0], &byte, 1) == 1 && byte == 'c';
    case 'e':
      return close(ask[1]) == 0 && waitpid(grandchild, &status, 0) == grandchild && WEXITSTATUS(status) == 9;
  }
  return -1;
}

static struct Member member;
static void check(void) { CHECK(member_do(&member, 'c') == 1); }

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "slow") == 0) {
    char byte;
    while (read(3, &byte, 1) == 1 && write(4, &byte, 1) == 1) continue;
    return 9;
  }
  member = member_start(obey);
  CHECK(member_do(&member, 's') == 1);
  victim_wait(check);
  if (victim_broken()) CHECK(member_do(&member, 'x') == 1);
  check();
  CHECK(member_do(&member, 'e') == 1);
  member_end(&member);
  victim_pass();
}
