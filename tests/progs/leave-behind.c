// leave-behind child|orphan: exits (exit(3)) while somebody lives on: its child, or the orphan of one that it has waited for. That
// one is the program under test; its number is in $VICTIM_DIR/behind.
#include "victim.h"

#include <sys/wait.h>

enum { kSize = 2 * MIB };
static unsigned char memory[kSize];
static int left[2];

static void verify(void) { CHECK(pattern_holds(memory, kSize, 1)); }

// When the first process has ended.
static void live_on(void) {
  char byte, text[32];
  CHECK(close(left[1]) == 0 && read(left[0], &byte, 1) == 0 && close(left[0]) == 0);
  pattern_fill(memory, kSize, 1);
  snprintf(text, sizeof text, "%d\n", (int)getpid());
  victim_write("behind", text);
  victim_wait(verify);
  verify();
  victim_pass();
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  CHECK(pipe(left) == 0);
  const int is_orphan = strcmp(argv[1], "orphan") == 0;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (is_orphan && fork() != 0) _exit(0);
    live_on();
  }
  if (is_orphan) CHECK(waitpid(child, NULL, 0) == child);
  exit(0);
}
