// Files of the kernel that the program has open: of itself, of its memory, of another thread, of the system, its namespace.
#include "victim.h"

static int namespace, status_file, maps, maps_copy, memory, thread_file, uptime, folder;
static pid_t thread_id;
static volatile int is_over;

static void* thread_body(void* argument) {
  pthread_setname_np(pthread_self(), "reader-of-proc");
  __atomic_store_n(&thread_id, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
  while (!is_over) victim_sleep_ms(5);
  return argument;
}

static int open_own(const char* name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/%s", name);
  int fd = open(path, O_RDONLY);
  if (fd < 0) victim_fail("%s: %s", path, strerror(errno));
  return fd;
}

static void read_all(int fd, char* text, size_t size) {
  size_t filled = 0;
  ssize_t count;
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  while (filled < size - 1 && (count = read(fd, text + filled, size - 1 - filled)) > 0) filled += (size_t)count;
  text[filled] = 0;
}

static void check(void) {
  static char text[1 << 20];
  char line[64];
  CHECK(lseek(status_file, 0, SEEK_CUR) == 10 && lseek(maps, 0, SEEK_CUR) == lseek(maps_copy, 0, SEEK_CUR));
  read_all(status_file, text, sizeof text);
  snprintf(line, sizeof line, "\nPid:\t%d\n", getpid());
  CHECK(strstr(text, line) != NULL);
  CHECK(lseek(status_file, 10, SEEK_SET) == 10);
  read_all(maps, text, sizeof text);
  CHECK(strstr(text, "[heap]") != NULL && strstr(text, "proc-files") != NULL);
  long value = 4711, got = 0;
  CHECK(pread(memory, &got, sizeof got, (off_t)(uintptr_t)&value) == sizeof got && got == value);
  read_all(thread_file, text, sizeof text);
  CHECK(strcmp(text, "reader-of-proc\n") == 0);
  read_all(uptime, text, sizeof text);
  CHECK(atof(text) > 0);
  snprintf(line, sizeof line, "%d/comm", thread_id);
  CHECK(faccessat(folder, line, R_OK, 0) == 0);
  struct stat own, held;
  CHECK(stat("/proc/self/ns/pid", &own) == 0 && fstat(namespace, &held) == 0);
  CHECK(own.st_ino == held.st_ino && own.st_dev == held.st_dev && fcntl(namespace, F_GETFD) == FD_CLOEXEC);
  CHECK(fcntl(maps, F_GETFD) == 0 && fcntl(maps_copy, F_GETFD) == FD_CLOEXEC);
}

int main(void) {
  char name[64];
  pthread_t thread = start_thread(thread_body, NULL);
  free(malloc(1000));
  while (__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE) == 0) victim_sleep_ms(1);
  victim_sleep_ms(5);
  status_file = open_own("status");
  CHECK(lseek(status_file, 10, SEEK_SET) == 10);
  maps = open_own("maps");
  maps_copy = fcntl(maps, F_DUPFD_CLOEXEC, 0);
  memory = open_own("mem");
  snprintf(name, sizeof name, "task/%d/comm", thread_id);
  thread_file = open_own(name);
  folder = open_own("task");
  namespace = open_own("ns/pid");
  CHECK(fcntl(namespace, F_SETFD, FD_CLOEXEC) == 0);
  CHECK((uptime = open("/proc/uptime", O_RDONLY)) >= 0);
  victim_wait(check);
  if (victim_broken()) CHECK(lseek(status_file, 0, SEEK_SET) == 0);
  check();
  is_over = 1;
  join_thread(thread);
  victim_pass();
}
