// Address space randomisation stays on, and everything is where it was: code, data, stack, heap, libraries, vdso.
#include "victim.h"

#include <sys/auxv.h>
#include <sys/personality.h>

enum { kAddresses = 8 };
static uintptr_t before[kAddresses];
static int data_word = 1;

static void take(uintptr_t* addresses, void* heap, void* stack) {
  addresses[0] = (uintptr_t)&take;
  addresses[1] = (uintptr_t)&data_word;
  addresses[2] = (uintptr_t)heap;
  addresses[3] = (uintptr_t)stack;
  addresses[4] = (uintptr_t)&printf;
  addresses[5] = getauxval(AT_SYSINFO_EHDR);
  addresses[6] = getauxval(AT_PHDR);
  addresses[7] = getauxval(AT_RANDOM);
}

static void* heap_block;
static char* stack_word;

static void check(void) {
  uintptr_t now[kAddresses];
  take(now, heap_block, stack_word);
  CHECK(memcmp(before, now, sizeof now) == 0);
  CHECK((personality(0xffffffff) & ADDR_NO_RANDOMIZE) == 0);
  char text[512];
  CHECK(read_file("/proc/self/stat", text, sizeof text) > 0);
  // The vdso answers where the auxiliary vector says it is.
  CHECK(memcmp((void*)getauxval(AT_SYSINFO_EHDR), "\177ELF", 4) == 0);
  struct timespec time;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
}

int main(void) {
  char on_stack = 1;
  stack_word = &on_stack;
  heap_block = malloc(100);
  take(before, heap_block, stack_word);
  char text[32];
  snprintf(text, sizeof text, "%lx\n", (unsigned long)(uintptr_t)&take);
  victim_write("address", text);
  victim_wait(check);
  if (victim_broken()) before[2] ^= 16;
  check();
  victim_pass();
}
