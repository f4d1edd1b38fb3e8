// A deleted file that two processes have opened each for itself, and one that the first has mapped and the second has opened: what
// one writes the other reads, and each has its own position.
#include "members.h"

enum { kBytes = 3 * PAGE };
static int opened, mapped;              // of each process, its own
static int first_opened, first_mapped;  // those of the first process
static uint64_t* view;
static uint64_t turn = 1;
static struct Member member;

static int open_of_first(int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getppid(), fd);
  int own = open(path, O_RDWR);
  CHECK(own >= 0 && close(fd) == 0);
  return own;
}

static long word_in(int fd) {
  long word = 0;
  CHECK(pread(fd, &word, sizeof word, PAGE) == sizeof word);
  return word;
}

static long write_word(int fd, long word) { return pwrite(fd, &word, sizeof word, PAGE) == sizeof word; }

static long obey(int order) {
  switch (order) {
    case 'o':
      opened = open_of_first(first_opened);
      mapped = open_of_first(first_mapped);
      return lseek(opened, 100, SEEK_SET) == 100;
    case 'r':
      return word_in(opened);
    case 'R':
      return word_in(mapped);
    case 'w':
      return write_word(opened, word_in(opened) + 1);
    case 'W':
      return write_word(mapped, word_in(mapped) + 1);
    case 'p':
      return lseek(opened, 0, SEEK_CUR);
  }
  return -1;
}

static int make_deleted(const char* name) {
  static char bytes[kBytes];
  int fd = open(victim_path(name), O_RDWR | O_CREAT | O_EXCL, 0600);
  pattern_fill(bytes, sizeof bytes, 4);
  CHECK(fd >= 0 && write(fd, bytes, sizeof bytes) == sizeof bytes && unlink(victim_path(name)) == 0);
  return fd;
}

static void check(void) {
  long word = (long)turn++ * 1000;
  CHECK(write_word(opened, word) && member_do(&member, 'r') == word);
  CHECK(member_do(&member, 'w') == 1 && word_in(opened) == word + 1);
  *(volatile uint64_t*)(view + PAGE / sizeof *view) = (uint64_t)word + 7;
  CHECK(member_do(&member, 'R') == word + 7);
  CHECK(member_do(&member, 'W') == 1 && *(volatile uint64_t*)(view + PAGE / sizeof *view) == (uint64_t)word + 8);
  CHECK(lseek(opened, 0, SEEK_CUR) == kBytes && member_do(&member, 'p') == 100);
}

int main(void) {
  first_opened = opened = make_deleted("opened");
  first_mapped = mapped = make_deleted("mapped");
  view = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
  CHECK(view != MAP_FAILED);
  member = member_start(obey);
  CHECK(member_do(&member, 'o') == 1 && close(mapped) == 0);
  check();
  victim_wait(check);
  if (victim_broken()) CHECK(lseek(opened, 0, SEEK_SET) == 0);
  check();
  member_end(&member);
  victim_pass();
}
