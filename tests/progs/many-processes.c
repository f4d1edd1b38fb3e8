// Many processes with memory of their own, each with a pattern: all are there afterwards, and each has its own memory.
#include "members.h"

#define ROOM (MIB / 2)

static struct Member* members;
static unsigned char* memory;
static uint64_t seed;

static long obey(int order) {
  if (order == 'f') pattern_fill(memory, ROOM, seed);
  if (order == 'x') memory[ROOM / 2] ^= 1;
  return pattern_holds(memory, ROOM, seed);
}

static int count;

static void check(void) {
  for (int i = 0; i < count; ++i) member_tell(&members[i], 'c');
  for (int i = 0; i < count; ++i) {
    if (!member_answer(&members[i])) victim_fail("the memory of process %d is another", i);
  }
}

int main(int argc, char** argv) {
  count = argc > 1 ? atoi(argv[1]) : 200;
  CHECK((members = calloc((size_t)count, sizeof *members)) != NULL);
  memory = map_anonymous(ROOM, PROT_READ | PROT_WRITE);
  for (int i = 0; i < count; ++i) {
    seed = (uint64_t)i;
    members[i] = member_start(obey);
    CHECK(member_do(&members[i], 'f') == 1);
  }
  victim_wait(check);
  if (victim_broken()) member_do(&members[count / 2], 'x');
  check();
  for (int i = 0; i < count; ++i) member_end(&members[i]);
  victim_pass();
}
