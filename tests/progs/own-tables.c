// Threads with tables of descriptors of their own (CLONE_FILES), beside one that shares the process's: what each has open under
// which number, what two of them have open together, and what only one has.
#include "victim.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { kThreads = 4 };  // 0 is the main one; 3 shares with it
enum { kFile = 10, kReader = 20, kWriter = 21, kEvent = 30, kData = 40, kTogether = 45, kMemory = 50, kNear = 60, kFar = 61 };

static const int numbers[kThreads][12] = {{kFile, kWriter, kEvent, kData, -1},
                                          {kFile, kReader, kData, kTogether, kMemory, kNear, kFar, -1},
                                          {-1},
                                          {kFile, kWriter, kEvent, kData, -1}};
static pthread_barrier_t start, finish;
static volatile int end, is_last;
static _Atomic int apart;
static pthread_mutex_t listing = PTHREAD_MUTEX_INITIALIZER;  // opens a descriptor, that another thread may see

static void place(int fd, int number) {
  CHECK(fd >= 0);
  CHECK(dup2(fd, number) == number);
  if (fd != number) close(fd);
}

static void look_at_numbers(size_t self) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/fd", gettid());
  DIR* folder = opendir(path);
  CHECK(folder != NULL);
  int count = 0;
  int wanted = 0;
  for (struct dirent* entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);
    if (fd < 3 || fd == dirfd(folder)) continue;
    int is_known = 0;
    for (int i = 0; numbers[self][i] >= 0; ++i) is_known |= numbers[self][i] == fd;
    if (!is_known) victim_fail("thread %zu has descriptor %d", self, fd);
    ++count;
  }
  closedir(folder);
  while (numbers[self][wanted] >= 0) ++wanted;
  if (count != wanted) victim_fail("thread %zu has %d descriptors instead of %d", self, count, wanted);
}

static void look_at_text(size_t self, int fd, const char* wanted) {
  char text[16] = "";
  CHECK(pread(fd, text, sizeof text - 1, 0) >= 0);
  if (strcmp(text, wanted) != 0) victim_fail("thread %zu reads '%s' through %d instead of '%s'", self, text, fd, wanted);
}

static void look(size_t self) {
  pthread_mutex_lock(&listing);
  look_at_numbers(self);
  pthread_mutex_unlock(&listing);
  if (self == 2) return;
  look_at_text(self, kFile, self == 1 ? "of thread" : "of main");
  look_at_text(self, kData, "data");
  CHECK((fcntl(kData, F_GETFD) == FD_CLOEXEC) == (self == 1));
  CHECK(lseek(self == 1 ? kTogether : kFile, 0, SEEK_CUR) == 3 + is_last);
  if (self != 1) return;
  look_at_text(self, kMemory, "memory");
  CHECK(fcntl(kMemory, F_GETFD) == 0 && fcntl(kNear, F_GETFD) == FD_CLOEXEC);
  struct pollfd both[2] = {{kReader, POLLIN, 0}, {kFar, POLLIN, 0}};
  CHECK(poll(both, 2, 0) == 2 && both[0].revents == POLLIN && both[1].revents == POLLIN);
}

static void leave_main(size_t self) {
  CHECK(unshare(CLONE_FILES) == 0);
  ++apart;
  if (self == 2) {
    CHECK(close_range(3, ~0U, 0) == 0);
    return;
  }
  close(kWriter);
  close(kEvent);
  CHECK(dup2(kFile, kTogether) == kTogether);
  place(open(victim_path("of-thread"), O_RDWR | O_CREAT, 0600), kFile);
  CHECK(write(kFile, "of thread", 9) == 9);
  CHECK(fcntl(kData, F_SETFD, FD_CLOEXEC) == 0);
  place(memfd_create("mine", 0), kMemory);
  CHECK(write(kMemory, "memory", 6) == 6);
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  place(ends[0], kNear);
  place(ends[1], kFar);
  CHECK(fcntl(kNear, F_SETFD, FD_CLOEXEC) == 0 && write(kNear, "across", 6) == 6);
}

static void* body(void* argument) {
  size_t self = (uintptr_t)argument;
  if (self != 3) leave_main(self);
  for (;;) {
    pthread_barrier_wait(&start);
    if (end) return argument;
    look(self);
    int is_over = is_last;
    pthread_barrier_wait(&finish);
    if (self != 1 || !is_over) continue;
    char text[16] = "";
    CHECK(read(kReader, text, sizeof text) == 4 && strcmp(text, "pipe") == 0);
    CHECK(read(kReader, text, sizeof text) == 0);  // main has closed the only end for writing
    CHECK(read(kFar, text, sizeof text) == 6 && memcmp(text, "across", 6) == 0);
  }
}

static void check(void) {
  pthread_barrier_wait(&start);
  look(0);
  pthread_barrier_wait(&finish);
}

int main(void) {
  pthread_barrier_init(&start, NULL, kThreads);
  pthread_barrier_init(&finish, NULL, kThreads);
  place(open(victim_path("of-main"), O_RDWR | O_CREAT, 0600), kFile);
  CHECK(write(kFile, "of main", 7) == 7 && lseek(kFile, 3, SEEK_SET) == 3);
  place(open(victim_path("data"), O_RDWR | O_CREAT, 0600), kData);
  CHECK(write(kData, "data", 4) == 4);
  int ends[2];
  CHECK(pipe(ends) == 0);
  place(ends[0], kReader);
  place(ends[1], kWriter);
  place(eventfd(7, 0), kEvent);
  pthread_t threads[kThreads];
  for (uintptr_t i = 1; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  while (apart < 2) sched_yield();
  close(kReader);
  CHECK(write(kWriter, "pipe", 4) == 4);
  check();
  victim_wait(check);
  if (victim_broken()) CHECK(lseek(kFile, 0, SEEK_SET) == 0);
  check();
  is_last = 1;
  CHECK(lseek(kFile, 4, SEEK_SET) == 4);
  check();
  close(kWriter);
  uint64_t value = 0;
  CHECK(read(kEvent, &value, sizeof value) == 8 && value == 7);
  end = 1;
  pthread_barrier_wait(&start);
  for (int i = 1; i < kThreads; ++i) join_thread(threads[i]);
  victim_pass();
}
