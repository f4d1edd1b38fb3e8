// What the kernel notes of a process and of each thread beside registers: scheduling, CPUs, priorities, slack, limits of
// privilege, and what is to happen at the death of its parent or of memory. Each thread has others. "privileged": with those that
// only root may set.
#include "victim.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { kThreads = 5 };

struct Scheduling {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t util_min, util_max;
};

// Of a thread.
struct Attributes {
  struct Scheduling scheduling;
  cpu_set_t cpus;
  long slack, io_priority;
  int parent_death_signal, no_new_privs, memory_failure, time_stamps, keeps_capabilities, secure_bits;
  unsigned long long capabilities[4];
};

static struct Process {
  int is_subreaper, thp_disabled, dumpable, personality;
  long membarriers;
  char oom[32], coredump[32];
} process_before, process_now;

static struct Attributes before[kThreads], now[kThreads];
static int is_privileged;
static pthread_barrier_t start, finish;
static volatile int end;

static void describe(struct Attributes* attributes) {
  memset(attributes, 0, sizeof *attributes);
  CHECK(syscall(SYS_sched_getattr, 0, &attributes->scheduling, sizeof attributes->scheduling, 0) == 0);
  CHECK(sched_getaffinity(0, sizeof attributes->cpus, &attributes->cpus) == 0);
  attributes->slack = prctl(PR_GET_TIMERSLACK);
  attributes->io_priority = syscall(SYS_ioprio_get, 1, 0);
  CHECK(prctl(PR_GET_PDEATHSIG, &attributes->parent_death_signal) == 0);
  attributes->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  attributes->memory_failure = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
  CHECK(prctl(PR_GET_TSC, &attributes->time_stamps) == 0);
  attributes->keeps_capabilities = prctl(PR_GET_KEEPCAPS);
  attributes->secure_bits = prctl(PR_GET_SECUREBITS);
  if (!is_privileged) return;
  static __thread char text[8192];
  CHECK(read_file("/proc/thread-self/status", text, sizeof text) > 0);
  static const char* const names[] = {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:"};
  for (int i = 0; i < 4; ++i) sscanf(strstr(text, names[i]) + 7, "%llx", &attributes->capabilities[i]);
}

static void describe_process(struct Process* process) {
  memset(process, 0, sizeof *process);
  CHECK(prctl(PR_GET_CHILD_SUBREAPER, &process->is_subreaper) == 0);
  process->thp_disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
  process->dumpable = prctl(PR_GET_DUMPABLE);
  process->personality = personality(0xffffffff);
  process->membarriers = syscall(SYS_membarrier, 1 << 9, 0, 0);
  CHECK(read_file("/proc/self/oom_score_adj", process->oom, sizeof process->oom) > 0);
  CHECK(read_file("/proc/self/coredump_filter", process->coredump, sizeof process->coredump) > 0);
}

static void set_scheduling(uint32_t policy, int nice, uint32_t priority, uint64_t flags) {
  struct Scheduling scheduling = {sizeof scheduling, policy, flags, nice, priority, 0, 0, 0, 0, 0};
  CHECK(syscall(SYS_sched_setattr, 0, &scheduling, 0) == 0);
}

// An ordinary user may only go up from where it was started.
static int nicer(int by) {
  int value = getpriority(PRIO_PROCESS, 0) + by;
  return value > 19 ? 19 : value;
}

static void set_cpu(int which) {
  cpu_set_t all, one;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &all) && which-- <= 0) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  if (CPU_COUNT(&one) == 1) CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
}

static void set_attributes(size_t self) {
  CHECK(prctl(PR_SET_TIMERSLACK, 70000 + 1000 * self) == 0);
  CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | self) == 0);
  if (self == 1) CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
  if (self == 1) set_scheduling(SCHED_BATCH, nicer(3), 0, 0);
  if (self == 2) set_scheduling(SCHED_IDLE, nicer(0), 0, 0);
  if (self == 3) CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (self == 3) CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
  if (self == 4) CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0);
  if (self == 4) CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
  if (self > 0) set_cpu((int)self % 2);
  if (self == 0) set_scheduling(SCHED_OTHER, nicer(5), 0, 1 /* SCHED_FLAG_RESET_ON_FORK */);
  if (!is_privileged) return;
  if (self == 2) set_scheduling(SCHED_RR, 0, 7, 0);
  if (self == 3) set_scheduling(SCHED_OTHER, -7, 0, 0);
  if (self == 3) CHECK(syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4) == 0);
  if (self == 4) {
    struct { uint32_t version; int pid; } header = {0x20080522, 0};
    struct { uint32_t effective, permitted, inheritable; } data[2];
    CHECK(prctl(PR_CAPBSET_DROP, 25, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECUREBITS, 3) == 0);
    CHECK(syscall(SYS_capget, &header, data) == 0);
    data[0].permitted &= ~(1U << 25);
    data[0].effective = 1U << 0;
    data[0].inheritable = 1U << 5;
    CHECK(syscall(SYS_capset, &header, data) == 0);
  }
}

static void* body(void* argument) {
  size_t self = (uintptr_t)argument;
  set_attributes(self);
  describe(&before[self]);
  pthread_barrier_wait(&finish);
  for (;;) {
    pthread_barrier_wait(&start);
    if (end) return argument;
    describe(&now[self]);
    pthread_barrier_wait(&finish);
  }
}

static void expect(int thread, const char* what, const void* old, const void* new, size_t size) {
  if (memcmp(old, new, size) != 0) victim_fail("thread %d: its %s changed", thread, what);
}

static void check(void) {
  pthread_barrier_wait(&start);
  describe(&now[0]);
  pthread_barrier_wait(&finish);
  for (int i = 0; i < kThreads; ++i) {
    const struct Attributes *old = &before[i], *new = &now[i];
    if (new->scheduling.policy != old->scheduling.policy) victim_fail("thread %d: policy %u", i, new->scheduling.policy);
    if (new->scheduling.nice != old->scheduling.nice) victim_fail("thread %d: nice %d", i, new->scheduling.nice);
    expect(i, "scheduling", &old->scheduling, &new->scheduling, sizeof old->scheduling);
    expect(i, "CPUs", &old->cpus, &new->cpus, sizeof old->cpus);
    if (new->slack != old->slack) victim_fail("thread %d: slack %ld", i, new->slack);
    if (new->io_priority != old->io_priority) victim_fail("thread %d: I/O priority %lx", i, new->io_priority);
    if (new->parent_death_signal != old->parent_death_signal) victim_fail("thread %d: no signal at its parent's death", i);
    if (new->no_new_privs != old->no_new_privs) victim_fail("thread %d: no_new_privs %d", i, new->no_new_privs);
    if (new->memory_failure != old->memory_failure) victim_fail("thread %d: memory failure policy", i);
    if (new->time_stamps != old->time_stamps) victim_fail("thread %d: time stamp counter", i);
    if (new->keeps_capabilities != old->keeps_capabilities) victim_fail("thread %d: keeps_capabilities", i);
    if (new->secure_bits != old->secure_bits) victim_fail("thread %d: secure bits %x", i, new->secure_bits);
    for (int j = 0; j < 4; ++j) {
      if (new->capabilities[j] != old->capabilities[j]) victim_fail("thread %d: capabilities %d: %llx", i, j, new->capabilities[j]);
    }
  }
  describe_process(&process_now);
  if (process_now.is_subreaper != process_before.is_subreaper) victim_fail("it is no subreaper any more");
  if (process_now.thp_disabled != process_before.thp_disabled) victim_fail("huge pages: %d", process_now.thp_disabled);
  if (process_now.dumpable != process_before.dumpable) victim_fail("dumpable %d", process_now.dumpable);
  if (process_now.personality != process_before.personality) victim_fail("personality %x", process_now.personality);
  if (process_now.membarriers != process_before.membarriers) victim_fail("memory barriers %lx", process_now.membarriers);
  if (strcmp(process_now.oom, process_before.oom) != 0) victim_fail("oom_score_adj %s", process_now.oom);
  if (strcmp(process_now.coredump, process_before.coredump) != 0) victim_fail("coredump_filter %s", process_now.coredump);
  // It is what the kernel does, not what it says.
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) victim_fail("membarrier: %s", strerror(errno));
}

static void write_file(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

int main(int argc, char** argv) {
  is_privileged = argc > 1 && strcmp(argv[1], "privileged") == 0;
  pthread_barrier_init(&start, NULL, kThreads);
  pthread_barrier_init(&finish, NULL, kThreads);
  write_file("/proc/self/oom_score_adj", "321");
  write_file("/proc/self/coredump_filter", "0x11");
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0);
  CHECK(personality(personality(0xffffffff) | ADDR_NO_RANDOMIZE) != -1);
  pthread_t threads[kThreads];
  for (uintptr_t i = 1; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  pthread_barrier_wait(&finish);
  set_attributes(0);
  describe(&before[0]);
  if (argc > 1 && strcmp(argv[1], "undumpable") == 0) CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
  describe_process(&process_before);
  victim_wait(check);
  if (victim_broken()) prctl(PR_SET_TIMERSLACK, 1);
  check();
  end = 1;
  pthread_barrier_wait(&start);
  for (int i = 1; i < kThreads; ++i) join_thread(threads[i]);
  victim_pass();
}
