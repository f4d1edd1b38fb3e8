// Code made at run time: in a page that is read-execute, in one that is read-write-execute, and patched after the restart.
#include "victim.h"

typedef int (*Function)(void);
static unsigned char* read_execute;
static unsigned char* all;

// mov eax, value; ret
static void emit(unsigned char* code, int value) {
  code[0] = 0xb8;
  memcpy(code + 1, &value, 4);
  code[5] = 0xc3;
}

static int call(unsigned char* code) { return ((Function)(uintptr_t)code)(); }

static void check(void) {
  static int patched = 7000;
  CHECK(call(read_execute) == 4711);
  CHECK(call(all) == patched);
  emit(all, ++patched);
  CHECK(call(all) == patched);
}

int main(void) {
  read_execute = map_anonymous(PAGE, PROT_READ | PROT_WRITE);
  emit(read_execute, 4711);
  CHECK(mprotect(read_execute, PAGE, PROT_READ | PROT_EXEC) == 0);
  all = map_anonymous(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
  emit(all, 7000);
  victim_wait(check);
  if (victim_broken()) emit(all, -1);
  check();
  victim_pass();
}
