// Files and folders that are not to be found by the name they were opened by: with another name, beside it or below, or none; a
// new one has the old name. What the program does with them goes where it went before.
#include "victim.h"

static int linked, deep, replaced, folder, locked;
static char text[64];

static const char* path_of(char* room, const char* name) {
  snprintf(room, 4096, "%s/%s", getenv("VICTIM_DIR"), name);
  return room;
}
static char one[4096], other[4096];

static int make(const char* name) {
  const int fd = open(path_of(one, name), O_RDWR | O_CREAT | O_EXCL, 0640);
  CHECK(fd >= 0 && write(fd, "old bytes", 9) == 9);
  return fd;
}

static void holds(int fd) { CHECK(pread(fd, text, sizeof text, 0) == 9 && memcmp(text, "old bytes", 9) == 0); }

static void is_at(int fd, const char* name) {
  struct stat open_one, named;
  CHECK(fstat(fd, &open_one) == 0 && stat(path_of(one, name), &named) == 0);
  CHECK(open_one.st_ino == named.st_ino && open_one.st_nlink == 1);
}

static void verify(void) {
  struct stat status;
  holds(linked);
  holds(deep);
  holds(replaced);
  is_at(linked, "second-name");
  is_at(deep, "below/second-name");
  CHECK(access(path_of(one, "first-name"), F_OK) == -1);
  CHECK(fstat(replaced, &status) == 0 && status.st_nlink == 0 && status.st_mtime == 1000000);
  CHECK(stat(path_of(one, "replaced"), &status) == 0 && status.st_size == 0);
  for (int i = 0; i < 2; ++i) {
    const int fd = i == 0 ? folder : locked;
    CHECK(fstat(fd, &status) == 0 && status.st_nlink == 0 && S_ISDIR(status.st_mode) && (status.st_mode & 0777) == 0750);
    CHECK(openat(fd, "new", O_RDWR | O_CREAT, 0600) == -1 && errno == ENOENT);
  }
  CHECK(access(path_of(one, "folder"), F_OK) == -1 && access(path_of(one, "locked"), F_OK) == 0);
}

static int removed_folder(const char* name) {
  CHECK(mkdir(path_of(one, name), 0750) == 0);
  const int fd = open(one, O_RDONLY | O_DIRECTORY);
  CHECK(fd >= 0 && rmdir(one) == 0);
  return fd;
}

int main(void) {
  const struct timespec times[2] = {{0, UTIME_OMIT}, {1000000, 0}};
  linked = make("first-name");
  CHECK(link(path_of(one, "first-name"), path_of(other, "second-name")) == 0 && unlink(one) == 0);
  deep = make("upper");
  CHECK(mkdir(path_of(other, "below"), 0700) == 0);
  CHECK(link(path_of(one, "upper"), path_of(other, "below/second-name")) == 0 && unlink(one) == 0);
  replaced = make("replaced");
  CHECK(futimens(replaced, times) == 0 && unlink(one) == 0);
  close(open(one, O_RDWR | O_CREAT, 0600));
  folder = removed_folder("folder");
  locked = removed_folder("locked");
  CHECK(mkdir(path_of(one, "locked"), 0700) == 0);
  victim_wait(verify);
  if (victim_broken()) CHECK(pwrite(deep, "new", 3, 0) == 3);
  verify();
  victim_pass();
}
