// Files of /proc that show other processes of the job: of the parent, inherited with its offset, and opened; of a child, and of one
// that has ended and not been waited for; a folder, and that with a path only. And one of its own that shows its memory.
#include "members.h"

static int own_status, own_maps, of_child, of_ended, path_only, folder;
static struct Member child, other;
static pid_t parent, ended;

static int open_of(pid_t pid, const char* name, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  int fd = open(path, flags);
  if (fd < 0) victim_fail("%s: %s", path, strerror(errno));
  return fd;
}

static const char* read_all(int fd) {
  static char text[1 << 20];
  size_t filled = 0;
  ssize_t count;
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  while (filled < sizeof text - 1 && (count = read(fd, text + filled, sizeof text - 1 - filled)) > 0) filled += (size_t)count;
  text[filled] = 0;
  return text;
}

static int shows(int fd, const char* name, long value) {
  char line[64];
  snprintf(line, sizeof line, "\n%s:\t%ld\n", name, value);
  return strstr(read_all(fd), line) != NULL;
}

// An address that is the parent's alone tells its memory from all others.
static int shows_area(int fd, const void* begin) {
  char start[32];
  snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)begin);
  return strstr(read_all(fd), start) != NULL;
}

static void* parents_area;

static long obey(int order) {
  if (order == 'o') return lseek(own_status, 0, SEEK_CUR);
  static int of_parent = -1;
  if (of_parent < 0) of_parent = open_of(parent, "status", O_RDONLY | O_CLOEXEC);
  return shows(own_status, "Pid", parent) && shows(of_parent, "Pid", parent);
}

static void check(void) {
  CHECK(lseek(own_status, 0, SEEK_CUR) == 10 && member_do(&child, 'o') == 10);
  CHECK(member_do(&child, 's') == 1 && member_do(&other, 's') == 1);
  CHECK(shows_area(own_maps, parents_area));
  CHECK(lseek(own_status, 10, SEEK_SET) == 10 && member_do(&other, 'o') == 10);  // they share it
  CHECK(shows(of_child, "Pid", child.pid) && shows(of_child, "PPid", getpid()));
  CHECK(shows(of_ended, "Pid", ended) && strstr(read_all(of_ended), "State:\tZ") != NULL);
  struct stat held, named;
  char path[64];
  snprintf(path, sizeof path, "/proc/%d", (int)other.pid);
  CHECK(fstat(folder, &held) == 0 && fstat(path_only, &named) == 0 && held.st_ino == named.st_ino);
  CHECK(stat(path, &named) == 0 && held.st_ino == named.st_ino);
  CHECK(faccessat(folder, "comm", R_OK, 0) == 0 && fcntl(of_child, F_GETFD) == FD_CLOEXEC);
}

int main(void) {
  parent = getpid();
  parents_area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(parents_area != MAP_FAILED && madvise(parents_area, 4096, MADV_DONTFORK) == 0);
  CHECK(mprotect(parents_area, 4096, PROT_READ) == 0);  // an area by itself
  own_status = open_of(parent, "status", O_RDONLY);
  CHECK(lseek(own_status, 10, SEEK_SET) == 10);
  child = member_start(obey);
  other = member_start(obey);
  CHECK((ended = fork()) >= 0);
  if (ended == 0) _exit(0);
  own_maps = open_of(parent, "maps", O_RDONLY);
  of_child = open_of(child.pid, "status", O_RDONLY | O_CLOEXEC);
  of_ended = open_of(ended, "status", O_RDONLY);
  folder = open_of(other.pid, "", O_RDONLY | O_DIRECTORY);
  path_only = open_of(other.pid, "", O_PATH);
  siginfo_t info;
  CHECK(waitid(P_PID, (id_t)ended, &info, WEXITED | WNOWAIT) == 0);
  victim_wait(check);
  if (victim_broken()) CHECK(lseek(own_status, 0, SEEK_SET) == 0);
  check();
  member_end(&child);
  member_end(&other);
  victim_pass();
}
