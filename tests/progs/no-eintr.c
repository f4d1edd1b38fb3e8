// Threads blocked in interruptible system calls see nothing of a checkpoint: no EINTR, no early return. One thread for each call
// named in the arguments ("all": every call of the table). Calls that only a timeout ends are repeated in short and long waits; the
// others block until the main thread wakes them.
#include "sysv.h"

#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/msg.h>
#include <sys/select.h>

enum { kShortMs = 40 };
static volatile int released;
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static uint32_t futex_word;
static int queue = -1;

static struct timespec in_ms(clockid_t clock, long milliseconds) {
  int64_t time = now_ns(clock) + milliseconds * 1000000LL;
  return (struct timespec){time / 1000000000, time % 1000000000};
}

static const struct timespec short_time = {0, kShortMs * 1000000L};
static const struct timespec long_time = {100000, 0};

// Short waits: 0 when the call ended by its timeout, else -1 and errno.
static int short_nanosleep(void) { return nanosleep(&short_time, NULL); }
static int short_clock_nanosleep(void) {
  errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &short_time, NULL);
  return errno == 0 ? 0 : -1;
}
static int short_clock_nanosleep_abs(void) {
  struct timespec end = in_ms(CLOCK_MONOTONIC, kShortMs);
  errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
  return errno == 0 ? 0 : -1;
}
static int short_usleep(void) { return usleep(kShortMs * 1000); }
static int short_poll(void) { return poll(NULL, 0, kShortMs); }
static int short_ppoll(void) { return ppoll(NULL, 0, &short_time, NULL); }
static int short_select(void) {
  struct timeval time = {0, kShortMs * 1000};
  return select(0, NULL, NULL, NULL, &time);
}
static int short_pselect(void) { return pselect(0, NULL, NULL, NULL, &short_time, NULL); }
static int short_sigtimedwait(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 5);
  return sigtimedwait(&set, NULL, &short_time) == -1 && errno == EAGAIN ? 0 : -1;
}
static int short_sem_timedwait(void) {
  sem_t never;
  sem_init(&never, 0, 0);
  struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  return sem_timedwait(&never, &end) == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static int short_futex(void) {
  uint32_t word = 0;
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &short_time, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
}

// Long waits: 0 when woken. `stop_*` wakes.
static int long_sem_timedwait(void) {
  struct timespec end = in_ms(CLOCK_REALTIME, 100000000);
  return sem_timedwait(&semaphore, &end);
}
static void wake_semaphore(pthread_t thread) {
  (void)thread;
  sem_post(&semaphore);
}
static int long_cond_timedwait(void) {
  struct timespec end = in_ms(CLOCK_REALTIME, 100000000);
  pthread_mutex_lock(&mutex);
  int error = 0;
  while (!released && error == 0) error = pthread_cond_timedwait(&condition, &mutex, &end);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return error == 0 ? 0 : -1;
}
static void wake_condition(pthread_t thread) {
  (void)thread;
  pthread_mutex_lock(&mutex);
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
}
static int long_futex(void) { return (int)syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &long_time, NULL, 0); }
static int long_futex_plain(void) { return (int)syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static void wake_futex(pthread_t thread) {
  (void)thread;
  syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1000, NULL, NULL, 0);
}
static int long_read(void) {
  char byte;
  return read(0, &byte, 1) == 1 ? 0 : -1;
}
static void wake_nothing(pthread_t thread) { (void)thread; }  // the harness writes into standard input
static int long_poll_stdin(void) {
  struct pollfd poll_fd = {.fd = 0, .events = POLLIN};
  return poll(&poll_fd, 1, -1) == 1 ? 0 : -1;
}
static int long_select_stdin(void) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(0, &set);
  return select(1, &set, NULL, NULL, NULL) == 1 ? 0 : -1;
}

// Signals of the program itself end these.
static __thread volatile int handled;
static void on_signal(int number) { handled = number; }
static int long_pause(void) { return pause() == -1 && errno == EINTR && handled == SIGUSR1 ? 0 : -1; }
static int long_sigsuspend(void) {
  sigset_t set;
  sigemptyset(&set);
  return sigsuspend(&set) == -1 && errno == EINTR && handled == SIGUSR1 ? 0 : -1;
}
static int long_ppoll(void) { return ppoll(NULL, 0, NULL, NULL) == -1 && errno == EINTR && handled == SIGUSR1 ? 0 : -1; }
static int long_nanosleep(void) { return nanosleep(&long_time, NULL) == -1 && errno == EINTR && handled == SIGUSR1 ? 0 : -1; }
static void wake_user_signal(pthread_t thread) { pthread_kill(thread, SIGUSR1); }
static int wait_for(int how) {
  sigset_t set;
  siginfo_t info;
  int number = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  if (how == 0 && sigwait(&set, &number) != 0) return -1;
  if (how == 1) number = sigwaitinfo(&set, &info);
  if (how == 2) number = sigtimedwait(&set, &info, &long_time);
  return number == SIGRTMIN + 3 ? 0 : -1;
}
static int long_sigwait(void) { return wait_for(0); }
static int long_sigwaitinfo(void) { return wait_for(1); }
static int long_sigtimedwait(void) { return wait_for(2); }
static void wake_waited_signal(pthread_t thread) { pthread_kill(thread, SIGRTMIN + 3); }
static int long_msgrcv(void) {
  struct {
    long type;
    char text[8];
  } message;
  return msgrcv(queue, &message, sizeof message.text, 0, 0) == sizeof message.text ? 0 : -1;
}
static void wake_msgrcv(pthread_t thread) {
  (void)thread;
  struct {
    long type;
    char text[8];
  } message = {1, "wake up"};
  CHECK(msgsnd(queue, &message, sizeof message.text, 0) == 0);
}

static struct Row {
  const char* name;
  int (*block)(void);
  void (*wake)(pthread_t);  // NULL: ends by its timeout and is repeated
  int needs_stdin;
  int is_chosen;
  pthread_t thread;
  long turns;
} rows[] = {
    {.name = "nanosleep", .block = short_nanosleep},
    {.name = "clock_nanosleep", .block = short_clock_nanosleep},
    {.name = "clock_nanosleep-abs", .block = short_clock_nanosleep_abs},
    {.name = "usleep", .block = short_usleep},
    {.name = "poll", .block = short_poll},
    {.name = "ppoll", .block = short_ppoll},
    {.name = "select", .block = short_select},
    {.name = "pselect", .block = short_pselect},
    {.name = "sigtimedwait-short", .block = short_sigtimedwait},
    {.name = "sem_timedwait-short", .block = short_sem_timedwait},
    {.name = "futex-short", .block = short_futex},
    {.name = "sem_timedwait", .block = long_sem_timedwait, .wake = wake_semaphore},
    {.name = "cond_timedwait", .block = long_cond_timedwait, .wake = wake_condition},
    {.name = "futex-timed", .block = long_futex, .wake = wake_futex},
    {.name = "futex", .block = long_futex_plain, .wake = wake_futex},
    {.name = "read", .block = long_read, .wake = wake_nothing, .needs_stdin = 1},
    {.name = "poll-stdin", .block = long_poll_stdin, .wake = wake_nothing, .needs_stdin = 1},
    {.name = "select-stdin", .block = long_select_stdin, .wake = wake_nothing, .needs_stdin = 1},
    {.name = "pause", .block = long_pause, .wake = wake_user_signal},
    {.name = "sigsuspend", .block = long_sigsuspend, .wake = wake_user_signal},
    {.name = "ppoll-signal", .block = long_ppoll, .wake = wake_user_signal},
    {.name = "nanosleep-signal", .block = long_nanosleep, .wake = wake_user_signal},
    {.name = "sigwait", .block = long_sigwait, .wake = wake_waited_signal},
    {.name = "sigwaitinfo", .block = long_sigwaitinfo, .wake = wake_waited_signal},
    {.name = "sigtimedwait", .block = long_sigtimedwait, .wake = wake_waited_signal},
    {.name = "msgrcv", .block = long_msgrcv, .wake = wake_msgrcv},
};
enum { kRows = sizeof rows / sizeof rows[0] };

static void* body(void* argument) {
  struct Row* row = argument;
  if (row->wake == NULL) {
    while (!released) {
      if (row->block() != 0) victim_fail("%s after %ld turns: %s", row->name, row->turns, strerror(errno));
      ++row->turns;
    }
  } else {
    if (row->block() != 0) victim_fail("%s: %s%s", row->name, strerror(errno), released ? "" : " (before its time)");
    // For those that wait for standard input: the harness writes after it has made `go`.
    if (!released && !(row->needs_stdin && victim_exists("go"))) victim_fail("%s: returned before its time", row->name);
  }
  return NULL;
}

static int choose(int argc, char** argv) {
  int chosen = 0;
  for (int i = 0; i < kRows; ++i) {
    for (int j = 1; j < argc; ++j) {
      // Not more than one reader of standard input in a crowd.
      if (strcmp(argv[j], rows[i].name) == 0 || (strcmp(argv[j], "all") == 0 && !rows[i].needs_stdin)) rows[i].is_chosen = 1;
    }
    chosen += rows[i].is_chosen;
  }
  return chosen;
}

static void sabotage(void) {
  for (int i = 0; i < kRows; ++i) {
    if (rows[i].is_chosen) pthread_kill(rows[i].thread, SIGUSR2), pthread_kill(rows[i].thread, SIGRTMIN + 3);
  }
  victim_sleep_ms(100);
  victim_fail("sabotage was not noticed");
}

int main(int argc, char** argv) {
  if (choose(argc, argv) == 0) {
    for (int i = 0; i < kRows; ++i) puts(rows[i].name);
    return 2;
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  sigaddset(&set, SIGRTMIN + 5);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  sem_init(&semaphore, 0, 0);
  queue = note_object("-q", msgget(IPC_PRIVATE, 0600));
  for (int i = 0; i < kRows; ++i) {
    if (rows[i].is_chosen) rows[i].thread = start_thread(body, &rows[i]);
  }
  victim_sleep_ms(20);
  victim_wait(NULL);
  if (victim_broken()) {
    sigaction(SIGUSR2, &action, NULL);
    sabotage();
  }
  released = 1;
  for (int i = 0; i < kRows; ++i) {
    if (rows[i].is_chosen && rows[i].wake != NULL) rows[i].wake(rows[i].thread);
  }
  for (int i = 0; i < kRows; ++i) {
    if (rows[i].is_chosen) join_thread(rows[i].thread);
    if (rows[i].is_chosen && rows[i].wake == NULL) CHECK(rows[i].turns > 0);
  }
  msgctl(queue, IPC_RMID, NULL);
  victim_pass();
}
