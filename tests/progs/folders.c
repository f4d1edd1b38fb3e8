// Descriptors of folders: one in the midst of its entries, one shared; and O_PATH of a file, a folder and a symbolic link.
#include "victim.h"

#include <dirent.h>

enum { kFiles = 300 };

static int folder, copy, file_path, folder_path, link_path;
static DIR* stream;
static char seen[kFiles];

static void note(const struct dirent* entry) {
  int number;
  if (sscanf(entry->d_name, "entry-%d", &number) == 1 && ++seen[number] > 1) victim_fail("%s came twice", entry->d_name);
}

static void read_entries(int count) {
  const struct dirent* entry;
  while (count-- > 0 && (entry = readdir(stream)) != NULL) note(entry);
}

static ino_t inode_of(int fd) {
  struct stat status;
  CHECK(fstat(fd, &status) == 0);
  return status.st_ino;
}

static void check(void) {
  struct stat status;
  char target[64];
  CHECK(stat(victim_path("many"), &status) == 0 && inode_of(folder_path) == status.st_ino);
  CHECK(lseek(folder, 0, SEEK_CUR) == lseek(copy, 0, SEEK_CUR));
  CHECK(fstatat(folder, "entry-7", &status, 0) == 0);
  CHECK(inode_of(file_path) == status.st_ino);
  CHECK((fcntl(file_path, F_GETFL) & O_PATH) != 0 && (fcntl(link_path, F_GETFL) & O_PATH) != 0);
  CHECK(read(file_path, target, 1) == -1 && errno == EBADF);
  CHECK(readlinkat(link_path, "", target, sizeof target) == 7 && memcmp(target, "entry-7", 7) == 0);
  int fd = openat(folder_path, "entry-3", O_RDONLY);
  CHECK(fd >= 0 && close(fd) == 0);
  CHECK(fcntl(folder, F_GETFD) == FD_CLOEXEC && fcntl(copy, F_GETFD) == 0);
}

int main(void) {
  char name[32];
  CHECK(mkdir(victim_path("many"), 0700) == 0);
  CHECK((folder = open(victim_path("many"), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 && (copy = dup(folder)) >= 0);
  for (int i = 0; i < kFiles; ++i) {
    snprintf(name, sizeof name, "entry-%d", i);
    int fd = openat(folder, name, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
  }
  CHECK(symlinkat("entry-7", folder, "link") == 0);
  CHECK((file_path = openat(folder, "entry-7", O_PATH)) >= 0);
  CHECK((folder_path = open(victim_path("many"), O_PATH | O_DIRECTORY)) >= 0);
  CHECK((link_path = openat(folder, "link", O_PATH | O_NOFOLLOW)) >= 0);
  char buffer[1024];
  CHECK(syscall(SYS_getdents64, folder, buffer, sizeof buffer) > 0);
  CHECK((stream = opendir(victim_path("many"))) != NULL);
  read_entries(100);
  victim_wait(check);
  if (victim_broken()) rewinddir(stream);
  check();
  read_entries(kFiles + 10);
  for (int i = 0; i < kFiles; ++i) {
    if (seen[i] != 1) victim_fail("entry-%d was seen %d times", i, seen[i]);
  }
  victim_pass();
}
