// Private mappings of what has no name: memory files that are open, or mapped shared as well, and deleted files. Pages written to
// differ, the others follow the file, and what is given back (MADV_DONTNEED) is the file's again.
#include "victim.h"

#include <linux/memfd.h>

enum { kPages = 6, kFirst = 1 };  // mapped from the second page on
static struct Thing {
  int fd;
  char* shared;   // the way to its bytes, if there is no descriptor
  char* private;  // page 0 written to, page 1 cleared, page 2 not touched, page 3 for reading, page 4 behind the end
  char value;     // of all bytes in the file
} things[3];
static char* orphan;  // of a deleted file that nothing else leads to
static char turn = 1;

static void set_file(struct Thing* thing, char value) {
  char bytes[(kPages - 1) * PAGE];
  memset(bytes, value, sizeof bytes);
  thing->value = value;
  if (thing->shared != NULL) {
    memcpy(thing->shared, bytes, sizeof bytes);
  } else {
    CHECK(pwrite(thing->fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
  }
}

static void check_thing(struct Thing* thing) {
  char* at = thing->private;
  CHECK(at[0] == turn && at[PAGE - 1] == turn && is_zero(at + PAGE, PAGE));
  CHECK(at[2 * PAGE] == thing->value && at[3 * PAGE] == thing->value);
  set_file(thing, (char)(thing->value + 1));
  CHECK(at[0] == turn && is_zero(at + PAGE, PAGE));
  CHECK(at[2 * PAGE] == thing->value && at[3 * PAGE] == thing->value);
  CHECK(madvise(at, 2 * PAGE, MADV_DONTNEED) == 0 && at[0] == thing->value && at[PAGE] == thing->value);
  memset(at, turn + 1, PAGE);
  memset(at + PAGE, 0, PAGE);
  CHECK(mprotect(at + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0 && mprotect(at + 3 * PAGE, PAGE, PROT_READ) == 0);
}

static void check(void) {
  for (int i = 0; i < 3; ++i) check_thing(&things[i]);
  CHECK(pattern_holds(orphan, PAGE, 5) && pattern_holds(orphan + PAGE, PAGE, 6));
  ++turn;
}

static void prepare(struct Thing* thing, int fd, int is_mapped) {
  CHECK(fd >= 0 && ftruncate(fd, (kPages - 1) * PAGE) == 0);
  thing->fd = fd;
  if (is_mapped) thing->shared = mmap(NULL, (kPages - 1) * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  thing->private = mmap(NULL, (kPages - kFirst) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, kFirst * PAGE);
  CHECK(thing->shared != MAP_FAILED && thing->private != MAP_FAILED);
  set_file(thing, 100);
  if (is_mapped) close(fd);
  memset(thing->private, turn, PAGE);
  memset(thing->private + PAGE, 0, PAGE);
  CHECK(mprotect(thing->private + 3 * PAGE, PAGE, PROT_READ) == 0);
}

static int make_deleted(const char* name) {
  int fd = open(victim_path(name), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0 && unlink(victim_path(name)) == 0);
  return fd;
}

int main(void) {
  prepare(&things[0], memfd_create("open", MFD_CLOEXEC), 0);
  prepare(&things[1], memfd_create("mapped", MFD_CLOEXEC), 1);
  prepare(&things[2], make_deleted("deleted"), 0);
  int fd = make_deleted("orphan");
  static char bytes[2 * PAGE];
  pattern_fill(bytes, 2 * PAGE, 5);
  CHECK(write(fd, bytes, sizeof bytes) == sizeof bytes);
  orphan = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(orphan != MAP_FAILED && close(fd) == 0);
  pattern_fill(orphan + PAGE, PAGE, 6);
  victim_wait(check);
  if (victim_broken()) things[1].private[0] ^= 1;
  check();
  victim_pass();
}
