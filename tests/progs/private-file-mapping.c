// Private mappings of files: pages written to, also with zeros, differ from the file, the others follow it. Of a data file and of the own executable.
#include "victim.h"

enum { kPages = 32 };
static char* data;
static char* program;
static char* constant;
static char original[kPages * 4096];
static size_t program_pages;
static char* program_copy;

static void check(void) {
  for (size_t i = 0; i < kPages; ++i) {
    if (i % 3 == 1) {
      CHECK(pattern_holds(data + i * PAGE, PAGE, 500 + i));
    } else if (i % 6 == 2) {
      CHECK(is_zero(data + i * PAGE, PAGE));
    } else {
      CHECK(pattern_holds(data + i * PAGE, PAGE, i));
    }
    CHECK(pattern_holds(constant + i * PAGE, PAGE, i));
  }
  CHECK(memcmp(program, program_copy, program_pages * PAGE) == 0);
  // What is private has not reached the file.
  CHECK(read_file(victim_path("data"), original, sizeof original) == sizeof original - 1);
  for (size_t i = 0; i < kPages - 1; ++i) CHECK(pattern_holds(original + i * PAGE, PAGE, i));
}

static void* map_file(const char* path, size_t size, int protection) {
  int fd = open(path, O_RDONLY);
  void* memory = mmap(NULL, size, protection, MAP_PRIVATE, fd, 0);
  CHECK(fd >= 0 && memory != MAP_FAILED);
  close(fd);
  return memory;
}

int main(void) {
  for (size_t i = 0; i < kPages; ++i) pattern_fill(original + i * PAGE, PAGE, i);
  int fd = open(victim_path("data"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  CHECK(write(fd, original, sizeof original) == sizeof original);
  close(fd);
  data = map_file(victim_path("data"), kPages * PAGE, PROT_READ | PROT_WRITE);
  constant = map_file(victim_path("data"), kPages * PAGE, PROT_READ);
  for (size_t i = 1; i < kPages; i += 3) pattern_fill(data + i * PAGE, PAGE, 500 + i);
  for (size_t i = 2; i < kPages; i += 6) memset(data + i * PAGE, 0, PAGE);
  CHECK(mprotect(data + 14 * PAGE, PAGE, PROT_READ) == 0);
  struct stat status;
  CHECK(stat("/proc/self/exe", &status) == 0);
  program_pages = (size_t)status.st_size / PAGE;
  CHECK(program_pages >= 3);
  program = map_file("/proc/self/exe", program_pages * PAGE, PROT_READ | PROT_WRITE);
  pattern_fill(program + PAGE, PAGE, 900);
  memset(program + 2 * PAGE, 0, PAGE);
  program_copy = malloc(program_pages * PAGE);
  memcpy(program_copy, program, program_pages * PAGE);
  victim_wait(check);
  if (victim_broken()) data[5 * PAGE] ^= 1;
  check();
  // A clean page can still be written to, privately.
  pattern_fill(data, PAGE, 800);
  CHECK(pattern_holds(data, PAGE, 800));
  CHECK(read_file(victim_path("data"), original, sizeof original) > 0 && pattern_holds(original, PAGE, 0));
  victim_pass();
}
