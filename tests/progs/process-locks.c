// Locks of fcntl(2) belong to the process and the file: they end when the process closes any descriptor of it. Here each locked
// file is open more than once, with the lock taken through the first, the last or the one in between; written through memory
// too, or deleted, or a memory file. A child has locks of its own through what it inherited.
#include "victim.h"

#include <sys/wait.h>

enum { kOpen = 3, kCases = 9 };

static struct Case {
  const char* name;
  int fds[kOpen], locked;  // which of them the lock was taken through
  short type;
} cases[kCases] = {
    {"first", {0}, 0, F_WRLCK},   {"middle", {0}, 1, F_WRLCK},      {"last", {0}, 2, F_WRLCK},
    {"read", {0}, 2, F_RDLCK},    {"mapped", {0}, 0, F_WRLCK},      {"mapped-last", {0}, 2, F_WRLCK},
    {"deleted", {0}, 1, F_WRLCK}, {"only-mapped", {0}, 0, F_RDLCK}, {"memory", {0}, 1, F_WRLCK},
};
static int shared;
static pid_t child;

static int set_lock(int fd, int command, short type, off_t start, off_t size) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};
  return fcntl(fd, command, &lock);
}

// The process that has a lock on this byte, as the kernel tells somebody else; 0: nobody.
static int owner_of(int fd, off_t at) {
  int ends[2];
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
  CHECK(pipe(ends) == 0);
  pid_t asker = fork();
  if (asker == 0) {
    if (fcntl(fd, F_GETLK, &lock) != 0) _exit(1);
    int owner = lock.l_type == F_UNLCK ? 0 : lock.l_pid;
    _exit(write(ends[1], &owner, sizeof owner) == sizeof owner ? 0 : 2);
  }
  int status, owner = -1;
  CHECK(waitpid(asker, &status, 0) == asker && status == 0);
  CHECK(read(ends[0], &owner, sizeof owner) == sizeof owner);
  close(ends[0]);
  close(ends[1]);
  return owner;
}

static void expect(const char* name, int fd, off_t at, pid_t owner) {
  pid_t found = owner_of(fd, at);
  if (found != owner) victim_fail("%s: byte %ld is locked by %d, not by %d", name, (long)at, found, owner);
}

static void check(void) {
  for (int i = 0; i < kCases; ++i) {
    int fd = cases[i].fds[0];
    expect(cases[i].name, fd, 4, 0);
    expect(cases[i].name, fd, 5, getpid());
    expect(cases[i].name, fd, 14, getpid());
    expect(cases[i].name, fd, 15, 0);
  }
  if (child == 0) return;
  expect("shared", shared, 0, getpid());
  expect("shared", shared, 10, 0);
  expect("shared", shared, 20, child);
}

static int open_one(const struct Case* one, int index) {
  if (strcmp(one->name, "memory") == 0) {
    char path[64];
    if (index == 0) return memfd_create("locked", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", one->fds[0]);
    return open(path, O_RDWR);
  }
  int is_read = strcmp(one->name, "only-mapped") == 0 || (strcmp(one->name, "read") == 0 && index > 0);
  return open(victim_path(one->name), is_read ? O_RDONLY : O_RDWR);
}

static void prepare(struct Case* one) {
  if (strcmp(one->name, "memory") != 0) {
    int fd = open(victim_path(one->name), O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && write(fd, "some bytes in the file", 22) == 22 && close(fd) == 0);
  }
  if (strstr(one->name, "mapped") != NULL) {  // before the lock is there: this descriptor is closed again
    int fd = open(victim_path(one->name), O_RDWR);
    char* memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED && close(fd) == 0);
    memory[0] = 'S';
  }
  for (int i = 0; i < kOpen; ++i) CHECK((one->fds[i] = open_one(one, i)) >= 0);
  if (strcmp(one->name, "deleted") == 0) CHECK(unlink(victim_path(one->name)) == 0);
  CHECK(set_lock(one->fds[one->locked], F_SETLK, one->type, 5, 10) == 0);
}

static void start_child(void) {
  CHECK((shared = open(victim_path("shared"), O_RDWR | O_CREAT, 0600)) >= 0);
  CHECK(set_lock(shared, F_SETLK, F_WRLCK, 0, 10) == 0);
  int ends[2];
  char is_ready;
  CHECK(pipe(ends) == 0);
  child = fork();
  if (child == 0) {
    if (set_lock(shared, F_SETLK, F_WRLCK, 20, 10) != 0 || write(ends[1], "r", 1) != 1) _exit(1);
    close(ends[1]);
    for (;;) pause();
  }
  CHECK(child > 0 && read(ends[0], &is_ready, 1) == 1 && close(ends[0]) == 0 && close(ends[1]) == 0);
}

int main(int argc, char** argv) {
  for (int i = 0; i < kCases; ++i) prepare(&cases[i]);
  if (argc > 1 && strcmp(argv[1], "tree") == 0) start_child();
  victim_wait(check);
  if (victim_broken()) close(open(victim_path("middle"), O_RDONLY));
  check();
  if (child > 0) CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
  victim_pass();
}
