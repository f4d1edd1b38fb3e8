// Shared anonymous memory: contents, holes, one object mapped twice, parts unmapped, protections, and where the object ends.
#include "victim.h"

#include <setjmp.h>

enum { kPages = 64 };
static char* plain;
static char* twin;    // the same object, from page 8 on
static char* cut;     // pages 16 to 31 of it are unmapped, its tail is grown beyond the object
static char* quiet;   // no access
static char* sparse;  // 1 GiB, three pages of it touched
static const size_t kSparse = 1UL << 30;
static int areas;
static sigjmp_buf back;
static uint64_t turn = 1;

static void on_fault(int signal) { siglongjmp(back, signal); }

// The signal that reading the address raises; 0: none.
static int probe(const volatile char* address) {
  int signal = sigsetjmp(back, 1);
  if (signal == 0) (void)*address;
  return signal;
}

static int lines_with(const char* text) {
  static char maps[1 << 20];
  CHECK(read_file("/proc/self/maps", maps, sizeof maps) > 0);
  int count = 0;
  for (char* at = maps; (at = strstr(at, text)) != NULL; ++at) ++count;
  return count;
}

static void check(void) {
  CHECK(pattern_holds(plain, 8 * PAGE, turn));
  CHECK(is_zero(plain + 40 * PAGE, 8 * PAGE));
  for (size_t i = 0; i < kPages - 8; ++i) CHECK(plain[(i + 8) * PAGE] == twin[i * PAGE]);
  ++turn;
  pattern_fill(plain, 8 * PAGE, turn);
  twin[3 * PAGE] = (char)turn;
  CHECK(plain[11 * PAGE] == (char)turn);
  CHECK(pattern_holds(cut, 16 * PAGE, 77) && pattern_holds(cut + 32 * PAGE, PAGE, 78));
  CHECK(probe(cut + 20 * PAGE) == SIGSEGV && probe(cut + kPages * PAGE) == SIGBUS);
  CHECK(probe(quiet) == SIGSEGV);
  CHECK(sparse[0] == 1 && sparse[kSparse / 2] == 2 && sparse[kSparse - 1] == 3 && sparse[PAGE] == 0);
  CHECK(lines_with("/dev/zero (deleted)") == areas);
}

static char* make(size_t pages) {
  char* memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

int main(void) {
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  plain = make(kPages);
  pattern_fill(plain, 8 * PAGE, turn);
  char* alias = mremap(plain, 0, kPages * PAGE, MREMAP_MAYMOVE);
  CHECK(alias != MAP_FAILED && munmap(alias, 8 * PAGE) == 0);
  twin = alias + 8 * PAGE;
  char* room = map_anonymous(256 * PAGE, PROT_NONE);
  cut = make(kPages);
  pattern_fill(cut, 16 * PAGE, 77);
  pattern_fill(cut + 20 * PAGE, PAGE, 79);
  pattern_fill(cut + 32 * PAGE, PAGE, 78);
  cut = mremap(cut, kPages * PAGE, (kPages + 8) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 64 * PAGE);
  CHECK(cut != MAP_FAILED);
  CHECK(munmap(cut + 16 * PAGE, 16 * PAGE) == 0 && mprotect(cut + 40 * PAGE, PAGE, PROT_READ) == 0);
  quiet = make(2);
  pattern_fill(quiet, 2 * PAGE, 5);
  CHECK(mprotect(quiet, 2 * PAGE, PROT_NONE) == 0);
  sparse = make(kSparse / PAGE);
  sparse[0] = 1;
  sparse[kSparse / 2] = 2;
  sparse[kSparse - 1] = 3;
  areas = lines_with("/dev/zero (deleted)");
  victim_wait(check);
  if (victim_broken()) plain[2] ^= 1;
  check();
  CHECK(mprotect(quiet, 2 * PAGE, PROT_READ) == 0 && pattern_holds(quiet, 2 * PAGE, 5));
  // What was unmapped is still in the object.
  char* whole = mremap(cut, 0, kPages * PAGE, MREMAP_MAYMOVE);
  CHECK(whole != MAP_FAILED && pattern_holds(whole + 20 * PAGE, PAGE, 79) && whole[21 * PAGE] == 0);
  victim_pass();
}
