// Forty thousand areas: neighbours of different protection, so that the kernel cannot merge them.
#include "victim.h"

static size_t pages = 40000;
static char* area;

static size_t count_areas(void) {
  static char text[16 << 20];
  CHECK(read_file("/proc/self/maps", text, sizeof text) > 0);
  size_t lines = 0;
  for (char* at = text; (at = strchr(at, '\n')) != NULL; ++at) ++lines;
  return lines;
}

static void check(void) {
  for (size_t i = 0; i < pages; ++i) CHECK(*(volatile size_t*)(area + i * PAGE) == (i % 3 == 0 ? i + 1 : 0));
  CHECK(count_areas() >= pages);
}

int main(int argc, char** argv) {
  if (argc > 1) pages = strtoul(argv[1], NULL, 10);
  area = map_anonymous(pages * PAGE, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < pages; i += 3) *(volatile size_t*)(area + i * PAGE) = i + 1;
  for (size_t i = 0; i < pages; i += 2) CHECK(mprotect(area + i * PAGE, PAGE, PROT_READ) == 0);
  check();
  victim_wait(check);
  if (victim_broken()) *(volatile size_t*)(area + 3 * PAGE) = 0;
  check();
  victim_pass();
}
