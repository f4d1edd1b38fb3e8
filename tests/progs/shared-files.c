// Shared mappings of files, writable: on disk, in a memory file system, deleted there and here, open at the same time and not; and
// private mappings of a file that is deleted or replaced.
#include "victim.h"

#include <sys/vfs.h>

enum { kPages = 16 };
static char* disk;       // a file on disk, closed
static char* disk_view;  // the same, read-only but from a descriptor that may write
static char* named;      // shm_open, open too
static int named_fd;
static char* unlinked;       // shm_open, shm_unlink, closed
static char* unlinked_high;  // … its upper half again
static char* gone;           // a deleted file on disk, open too
static char* gone_closed;    // … and closed
static char* lost;           // private, of a deleted file
static char* replaced;       // private, of a file that is now another
static int gone_fd;
static char shm_name[64];
static uint64_t turn = 1;

static char* map(int fd, int protection, int flags, size_t page, size_t pages) {
  char* memory = mmap(NULL, pages * PAGE, protection, flags, fd, (off_t)(page * PAGE));
  CHECK(memory != MAP_FAILED);
  return memory;
}

static int make_file(const char* path, uint64_t seed) {
  static char bytes[kPages * PAGE];
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  pattern_fill(bytes, sizeof bytes, seed);
  CHECK(write(fd, bytes, sizeof bytes) == sizeof bytes);
  return fd;
}

static uint64_t word_in_file(const char* path, off_t offset) {
  uint64_t word = 0;
  int fd = open(path, O_RDONLY);
  CHECK(fd >= 0 && pread(fd, &word, sizeof word, offset) == sizeof word);
  close(fd);
  return word;
}

static void check_turn(volatile char* memory) {
  volatile uint64_t* word = (volatile uint64_t*)memory;
  if (*word != turn) victim_fail("%llu instead of %llu", (unsigned long long)*word, (unsigned long long)turn);
  *word = turn + 1;
}

static void check(void) {
  check_turn(disk);
  CHECK(word_in_file(victim_path("disk"), 0) == turn + 1);
  CHECK(*(uint64_t*)disk_view == turn + 1 && pattern_holds(disk + PAGE, (kPages - 1) * PAGE, 3) == 0);
  CHECK(mprotect(disk_view, PAGE, PROT_READ | PROT_WRITE) == 0 && mprotect(disk_view, PAGE, PROT_READ) == 0);
  check_turn(named);
  char path[128];
  snprintf(path, sizeof path, "/dev/shm/%s", shm_name);
  CHECK(word_in_file(path, 0) == turn + 1 && named[5 * PAGE] == 0 && named[9 * PAGE] == 9);
  char byte = 0;
  CHECK(read(named_fd, &byte, 1) == 1 && byte == 9 && lseek(named_fd, -1, SEEK_CUR) == 9 * PAGE);
  check_turn(unlinked);
  check_turn(unlinked_high);
  CHECK(*(uint64_t*)(unlinked + kPages / 2 * PAGE) == turn + 1);
  check_turn(gone);
  uint64_t word = 0;
  CHECK(pread(gone_fd, &word, sizeof word, 0) == sizeof word && word == turn + 1);
  CHECK(lseek(gone_fd, 0, SEEK_CUR) == kPages * (off_t)PAGE);
  check_turn(gone_closed);
  CHECK(pattern_holds(lost, 4 * PAGE, 70) && pattern_holds(lost + 4 * PAGE, PAGE, 71));
  CHECK(pattern_holds(replaced, PAGE, 80));
  CHECK(access(victim_path("gone"), F_OK) == -1);
  ++turn;
}

int main(void) {
  int fd = make_file(victim_path("disk"), 3);
  disk = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0, kPages);
  disk_view = map(fd, PROT_READ, MAP_SHARED, 0, kPages);
  close(fd);
  snprintf(shm_name, sizeof shm_name, "ckpt-test-%d", getpid());
  fd = shm_open(shm_name, O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0 && ftruncate(fd, kPages * (off_t)PAGE) == 0);
  named = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0, kPages);
  named[9 * PAGE] = 9;
  CHECK(lseek(fd, 9 * PAGE, SEEK_SET) == 9 * PAGE);
  named_fd = fd;
  fd = shm_open("ckpt-test-unlinked", O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && shm_unlink("ckpt-test-unlinked") == 0 && ftruncate(fd, kPages * (off_t)PAGE) == 0);
  unlinked = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0, kPages);
  unlinked_high = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, kPages / 2, kPages / 2);
  close(fd);
  gone_fd = make_file(victim_path("gone"), 5);
  gone = map(gone_fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0, kPages);
  CHECK(unlink(victim_path("gone")) == 0);
  fd = make_file(victim_path("gone"), 6);
  gone_closed = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0, kPages);
  close(fd);
  CHECK(unlink(victim_path("gone")) == 0);
  fd = make_file(victim_path("lost"), 70);
  lost = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, kPages);
  pattern_fill(lost + 4 * PAGE, PAGE, 71);
  pattern_fill(lost, 4 * PAGE, 70);
  close(fd);
  CHECK(unlink(victim_path("lost")) == 0);
  fd = make_file(victim_path("replaced"), 80);
  replaced = map(fd, PROT_READ, MAP_PRIVATE, 0, kPages);
  close(fd);
  close(make_file(victim_path("replacement"), 81));
  char to[4096];
  strcpy(to, victim_path("replaced"));
  CHECK(rename(victim_path("replacement"), to) == 0);
  *(uint64_t*)disk = *(uint64_t*)named = *(uint64_t*)unlinked = *(uint64_t*)unlinked_high = turn;
  *(uint64_t*)gone = *(uint64_t*)gone_closed = turn;
  victim_wait(check);
  if (victim_broken()) {
    shm_unlink(shm_name);
    *(uint64_t*)disk = 0;
  }
  check();
  shm_unlink(shm_name);
  victim_pass();
}
