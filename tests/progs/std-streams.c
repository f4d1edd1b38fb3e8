// Standard streams go on: a line to stdout (unbuffered) before, at each round and at the end, and one to stderr; the test looks at
// what arrived. With the argument "input" the last line of standard input is waited for and repeated.
#include "victim.h"

static int round_number;

static void say(const char* text) {
  dprintf(1, "out %s %d\n", text, round_number);
  dprintf(2, "err %s %d\n", text, round_number);
}

static void check(void) {
  ++round_number;
  say("round");
}

int main(int argc, char** argv) {
  say("start");
  victim_wait(check);
  if (victim_broken()) victim_fail("sabotage");
  if (argc > 1 && strcmp(argv[1], "input") == 0) {
    char text[64];
    ssize_t size = read(0, text, sizeof text - 1);
    CHECK(size > 0);
    text[size] = 0;
    dprintf(1, "got %s", text);
  }
  say("end");
  victim_pass();
}
