// victim FOLDER MIB THREADS [PROCESSES [DESCRIPTORS [PIPES]]]: holds MIB of random data and THREADS threads in all, and looks at
// the clock without a pause. So many processes in all, the others of the same size and asleep; so many eventfds and pipes in the
// first. Writes FOLDER/ready when it stands. `touch FOLDER/ask`: the longest gap between two looks since the last time it was asked
// goes into FOLDER/gap, in nanoseconds, and `ask` is gone. After a restart, told by a jump of CLOCK_REALTIME that CLOCK_MONOTONIC
// did not make, FOLDER/resumed holds the CLOCK_REALTIME of the first look.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/clock.h"

static void* wait_for_ever(void* unused) {
  for (;;) pause();
  return unused;
}

static void start_threads(int count) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 65536);
  for (int i = 0; i < count; ++i) {
    pthread_t id;
    if (pthread_create(&id, &attributes, wait_for_ever, NULL) != 0) {
      perror("pthread_create");
      exit(1);
    }
  }
}

static const char* name_in(const char* folder, const char* name) {
  static char path[4096];
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

static void look_for_ever(const char* folder) {
  char ask[4096];
  snprintf(ask, sizeof(ask), "%s/ask", folder);
  int64_t longest = 0;
  int64_t last = now_ns(CLOCK_MONOTONIC);
  int64_t offset = now_ns(CLOCK_REALTIME) - last;
  int64_t next_check = last;
  for (;;) {
    const int64_t now = now_ns(CLOCK_MONOTONIC);
    if (now - last > longest) longest = now - last;
    if (now - last > 100000 || now > next_check) {
      const int64_t real = now_ns(CLOCK_REALTIME);
      if (real - now - offset > 20000000) write_number(name_in(folder, "resumed"), real);
      offset = real - now;
    }
    if (now > next_check) {
      if (unlink(ask) == 0) {
        write_number(name_in(folder, "gap"), longest);
        longest = 0;
      }
      next_check = now_ns(CLOCK_MONOTONIC) + 5000000;
      last = now_ns(CLOCK_MONOTONIC);
    } else {
      last = now;
    }
  }
}

static void hold_memory(size_t size) {
  if (size == 0) return;
  void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  fill_random(memory, size / sizeof(uint64_t));
}

static void start_processes(int count, size_t size) {
  for (int i = 0; i < count; ++i) {
    const pid_t pid = fork();
    if (pid < 0) perror("fork");
    if (pid != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    hold_memory(size);
    for (;;) pause();
  }
}

static void open_descriptors(int events, int pipes) {
  int ends[2];
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  for (int i = 0; i < events; ++i) {
    if (eventfd((unsigned)i, 0) < 0) perror("eventfd");
  }
  for (int i = 0; i < pipes; ++i) {
    if (pipe(ends) != 0 || write(ends[1], "some bytes", 10) != 10) perror("pipe");
  }
}

int main(int argc, char** argv) {
  if (argc < 4 || argc > 7) {
    fprintf(stderr, "usage: victim FOLDER MIB THREADS [PROCESSES [DESCRIPTORS [PIPES]]]\n");
    return 2;
  }
  const size_t size = (size_t)atoi(argv[2]) << 20;
  if (argc > 4) start_processes(atoi(argv[4]) - 1, size);
  if (argc > 5) open_descriptors(atoi(argv[5]), argc > 6 ? atoi(argv[6]) : 0);
  hold_memory(size);
  start_threads(atoi(argv[3]) - 1);
  write_number(name_in(argv[1], "ready"), getpid());
  look_for_ever(argv[1]);
}
