// /proc/self/maps shows the same named areas at the same places, so that gdb and perf find their symbols. The runtime's own areas
// aside. The main thread waits in well-known functions, for the test of the backtrace.
#include "victim.h"

#include <sys/prctl.h>

static char before[1 << 20], now[1 << 20];

// Keeps the lines with a name, without device and inode, and without what is the runtime's.
static void take(char* out, size_t size) {
  static char text[1 << 20];
  CHECK(read_file("/proc/self/maps", text, sizeof text) > 0);
  size_t filled = 0;
  for (char* line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    char range[64], protection[8], offset[32];
    int name = 0;
    CHECK(sscanf(line, "%63s %7s %31s %*s %*s %n", range, protection, offset, &name) == 3);
    if (name == 0 || line[name] == 0 || strstr(line, "libckpt.so") != NULL || strstr(line, ".ckpt-control") != NULL) continue;
    // The main stack grows as it is used.
    const char* start = strcmp(line + name, "[stack]") == 0 ? strchr(range, '-') : range;
    filled += (size_t)snprintf(out + filled, size - filled, "%s %s %s %s\n", start, protection, offset, line + name);
    CHECK(filled < size);
  }
}

static void check(void) {
  // Under Yama the debugger of an ordinary user is let in like this only.
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  take(now, sizeof now);
  if (strcmp(before, now) != 0) {
    fprintf(stderr, "before:\n%s\nnow:\n%s\n", before, now);
    victim_fail("the named areas differ");
  }
  CHECK(strstr(now, "[heap]") && strstr(now, "[stack]") && strstr(now, "[vdso]") && strstr(now, "maps-names") &&
        strstr(now, "libc"));
}

__attribute__((noinline)) static void wait_in_inner_function(int depth) {
  if (depth > 0) {
    wait_in_inner_function(depth - 1);
  } else {
    victim_wait(check);
  }
  __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void wait_in_outer_function(void) {
  wait_in_inner_function(2);
  __asm__ volatile("" ::: "memory");
}

int main(void) {
  // Everything stdio and malloc will ever map is mapped before the first look.
  void* memory = malloc(100);
  char file[64];
  snprintf(file, sizeof file, "%p", memory);
  take(before, sizeof before);
  take(before, sizeof before);
  wait_in_outer_function();
  if (victim_broken()) mprotect((void*)((uintptr_t)&main & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
  check();
  victim_pass();
}
