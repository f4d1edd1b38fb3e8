// Numbers of processes, as the program knows them, in everything that takes or tells one: itself, its children, who has sent a
// signal. With "threads": those of a second thread as well.
#include "victim.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

static pid_t self, second_tid;
static pthread_t second;
static volatile sig_atomic_t signals, sender, second_signals;
static volatile int is_over;

static void note(int signal, siginfo_t* info, void* context) {
  (void)signal;
  (void)context;
  sender = info->si_pid;
  ++signals;
}

static void note_second(int signal) {
  (void)signal;
  if (gettid() == second_tid) ++second_signals;
}

#define CHECK_SIGNAL(statement, who) \
  do {                               \
    int before = signals;            \
    sender = 0;                      \
    statement;                       \
    CHECK(signals == before + 1);    \
    CHECK(sender == (who));          \
  } while (0)

static void check_self(void) {
  struct rlimit limit;
  cpu_set_t set;
  CHECK(getpid() == self && gettid() == self);
  CHECK(syscall(SYS_getpid) == self);
  CHECK(getpgid(self) == self && getpgid(0) == self && getpgrp() == self);
  CHECK_SIGNAL(CHECK(kill(self, SIGUSR1) == 0), self);
  CHECK_SIGNAL(CHECK(kill(-self, SIGUSR1) == 0), self);
  CHECK_SIGNAL(CHECK(raise(SIGUSR1) == 0), self);
  CHECK_SIGNAL(CHECK(tgkill(self, self, SIGUSR1) == 0), self);
  CHECK_SIGNAL(CHECK(syscall(SYS_tgkill, self, self, SIGUSR1) == 0), self);
  CHECK_SIGNAL(CHECK(sigqueue(self, SIGUSR1, (union sigval){.sival_int = 1}) == 0), self);
  CHECK_SIGNAL(CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0), self);
  CHECK(sched_getaffinity(self, sizeof set, &set) == 0);
  errno = 0;
  CHECK(getpriority(PRIO_PROCESS, (id_t)self) != -1 || errno == 0);
  CHECK(prlimit(self, RLIMIT_NOFILE, NULL, &limit) == 0);
}

// Another CPU each time: who has our old number stays on its own.
static void check_affinity(void) {
  static cpu_set_t all;
  static int turn;
  cpu_set_t set, wanted;
  if (CPU_COUNT(&all) == 0) CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  CPU_ZERO(&wanted);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&wanted) == 0; ++cpu) {
    int which = turn % 2 == 0 ? cpu : CPU_SETSIZE - 1 - cpu;
    if (CPU_ISSET(which, &all)) CPU_SET(which, &wanted);
  }
  ++turn;
  CHECK(sched_setaffinity(0, sizeof wanted, &wanted) == 0);
  CHECK(pthread_getaffinity_np(pthread_self(), sizeof set, &set) == 0 && CPU_EQUAL(&set, &wanted));
  CHECK(sched_getaffinity(self, sizeof set, &set) == 0 && CPU_EQUAL(&set, &wanted));
}

// What was a hole in the program's memory is one, which it may fill and take away.
static char* hole;
static void check_hole(void) {
  const size_t size = 64 * 4096;
  if (hole != NULL) CHECK(munmap(hole, size) == 0);
  hole = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(hole != MAP_FAILED && munmap(hole + size / 4, size / 2) == 0);
}

static void check_socket_owner(void) {
  int ends[2], number = -self;
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  CHECK(ioctl(ends[0], FIOSETOWN, &number) == 0 && fcntl(ends[0], F_GETOWN) == -self);
  number = self;
  CHECK(ioctl(ends[0], SIOCSPGRP, &number) == 0 && fcntl(ends[0], F_GETOWN) == self);
  number = 0;
  CHECK(ioctl(ends[0], FIOGETOWN, &number) == 0 && number == self);
  close(ends[0]);
  close(ends[1]);
}

static void check_owner(void) {
  int ends[2];
  struct f_owner_ex owner = {F_OWNER_TID, self};
  CHECK(pipe(ends) == 0);
  CHECK(fcntl(ends[0], F_SETOWN, self) == 0 && fcntl(ends[0], F_GETOWN) == self);
  CHECK(fcntl(ends[0], F_SETOWN, -self) == 0 && fcntl(ends[0], F_GETOWN) == -self);
  CHECK(fcntl(ends[0], F_SETOWN_EX, &owner) == 0);
  owner.pid = 0;
  CHECK(fcntl(ends[0], F_GETOWN_EX, &owner) == 0 && owner.pid == self);
  close(ends[0]);
  close(ends[1]);
}

static void check_waiting_signal(void) {
  sigset_t set, old;
  siginfo_t info;
  struct timespec patience = {10, 0};
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &old);
  CHECK(raise(SIGUSR1) == 0);
  CHECK(sigtimedwait(&set, &info, &patience) == SIGUSR1 && info.si_pid == self);
  sigprocmask(SIG_SETMASK, &old, NULL);
}

// Its number is a new one, also to its parent.
static void check_child(void) {
  int told[2], status;
  siginfo_t info = {0};
  pid_t number = 0;
  CHECK(pipe(told) == 0);
  sender = 0;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    number = getpid();
    if (getppid() != self || gettid() != number || getpgrp() != self) _exit(1);
    if (write(told[1], &number, sizeof number) != sizeof number) _exit(2);
    _exit(kill(getppid(), SIGUSR1) == 0 && raise(SIGUSR1) == 0 && sender == number ? 7 : 3);
  }
  CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0 || errno == EINTR);
  while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  CHECK(read(told[0], &number, sizeof number) == sizeof number && number == child);
  CHECK(sender == child);
  close(told[0]);
  close(told[1]);
}

static void* be_second(void* unused) {
  (void)unused;
  second_tid = gettid();
  while (!is_over) {
    CHECK(gettid() == second_tid && getpid() == self);
    victim_sleep_ms(5);
  }
  return NULL;
}

static void check_second(void) {
  int before = second_signals;
  cpu_set_t set;
  CHECK(pthread_kill(second, SIGUSR2) == 0 && tgkill(self, second_tid, 0) == 0);
  while (second_signals == before) victim_sleep_ms(1);
  CHECK(pthread_getaffinity_np(second, sizeof set, &set) == 0);
  CHECK(sched_getscheduler(second_tid) >= 0);
}

static void check(void) {
  check_self();
  check_affinity();
  check_hole();
  check_owner();
  check_socket_owner();
  check_waiting_signal();
  check_child();
  if (second_tid != 0) check_second();
}

int main(int argc, char** argv) {
  struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
  (void)argv;
  setpgid(0, 0);
  self = getpid();
  check_affinity();
  check_hole();
  sigaction(SIGUSR1, &action, NULL);
  action.sa_handler = note_second;
  action.sa_flags = SA_RESTART;
  if (argc > 1) {
    sigaction(SIGUSR2, &action, NULL);
    second = start_thread(be_second, NULL);
    while (second_tid == 0) victim_sleep_ms(1);
  }
  check();
  victim_wait(check);
  if (victim_broken()) ++self;
  check();
  is_over = 1;
  if (second_tid != 0) join_thread(second);
  victim_pass();
}
