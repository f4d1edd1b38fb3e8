// A storm of the program's own signals, for many freezes to fall into. Each pair of threads plays: the sender sends one signal to
// the waiter and waits for its answer. A lost wake-up leaves a pair standing, which the sender's time-out (20 s) notices; an EINTR
// nobody caused, an early return, or a signal too many is noticed by the waiter. Arguments: pairs of each sort (default 1).
#include "victim.h"

#include <poll.h>
#include <semaphore.h>
#include <sys/select.h>

struct Pair;
static void wait_sigsuspend(struct Pair* pair);
static void wait_sigwait(struct Pair* pair);
static void wait_sigwaitinfo(struct Pair* pair);
static void wait_ppoll(struct Pair* pair);
static void wait_pselect(struct Pair* pair);
static void wait_pause(struct Pair* pair);

static const struct Sort {
  const char* name;
  void (*wait)(struct Pair*);
  int acknowledged_by_handler;  // pause races with its signal by nature, so the handler answers
} sorts[] = {
    {"sigsuspend", wait_sigsuspend, 0}, {"sigwait", wait_sigwait, 0}, {"sigwaitinfo", wait_sigwaitinfo, 0},
    {"ppoll", wait_ppoll, 0},           {"pselect", wait_pselect, 0}, {"pause", wait_pause, 1},
};
enum { kSorts = sizeof sorts / sizeof sorts[0], kMostPairs = 64 };

static struct Pair {
  const struct Sort* sort;
  pthread_t waiter, sender;
  pid_t waiter_tid;
  sem_t answer;
  volatile long sent, received;
} pairs[kMostPairs];

// Senders end first: a waiter that ended before would leave its sender without an answer.
static volatile int end_senders, end_waiters;
static __thread struct Pair* own_pair;
static __thread volatile long handled;

static void on_signal(int number, siginfo_t* info, void* context) {
  (void)context;
  if (number != SIGUSR1 || info->si_code != SI_TKILL || info->si_pid != getpid()) {
    victim_fail("%s: a handler saw signal %d, code %d, pid %d", own_pair->sort->name, number, info->si_code, info->si_pid);
  }
  ++handled;
  if (own_pair->sort->acknowledged_by_handler) {
    ++own_pair->received;
    sem_post(&own_pair->answer);
  }
}

// All of these let the signal in only while they wait, so a return without a handled signal is an EINTR nobody caused.
static void expect_interrupted(struct Pair* pair, int result, long before) {
  if (result != -1 || errno != EINTR) victim_fail("%s: returned %d, %s", pair->sort->name, result, strerror(errno));
  if (handled != before + 1) victim_fail("%s: EINTR with %ld signals handled", pair->sort->name, handled - before);
}

static void wait_sigsuspend(struct Pair* pair) {
  sigset_t none;
  sigemptyset(&none);
  long before = handled;
  expect_interrupted(pair, sigsuspend(&none), before);
}

static void wait_ppoll(struct Pair* pair) {
  sigset_t none;
  sigemptyset(&none);
  long before = handled;
  expect_interrupted(pair, ppoll(NULL, 0, NULL, &none), before);
}

static void wait_pselect(struct Pair* pair) {
  sigset_t none;
  sigemptyset(&none);
  struct timespec time = {1000, 0};
  long before = handled;
  expect_interrupted(pair, pselect(0, NULL, NULL, NULL, &time, &none), before);
}

static void wait_sigwait(struct Pair* pair) {
  sigset_t set;
  int number = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  int error = sigwait(&set, &number);
  if (error != 0 || number != SIGUSR1) victim_fail("%s: %s, signal %d", pair->sort->name, strerror(error), number);
}

static void wait_sigwaitinfo(struct Pair* pair) {
  sigset_t set;
  siginfo_t info;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  int number = sigwaitinfo(&set, &info);
  if (number != SIGUSR1) victim_fail("%s: signal %d, %s", pair->sort->name, number, strerror(errno));
  // glibc shows SI_TKILL as SI_USER here.
  if (info.si_code != SI_USER || info.si_pid != getpid())
    victim_fail("%s: code %d, pid %d", pair->sort->name, info.si_code, info.si_pid);
}

static void wait_pause(struct Pair* pair) {
  (void)pair;
  pause();
}

static void* wait_body(void* argument) {
  struct Pair* pair = own_pair = argument;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(pair->sort->acknowledged_by_handler ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
  __atomic_store_n(&pair->waiter_tid, gettid(), __ATOMIC_SEQ_CST);
  while (!end_waiters) {
    pair->sort->wait(pair);
    if (pair->sort->acknowledged_by_handler) continue;
    ++pair->received;
    sem_post(&pair->answer);
  }
  return NULL;
}

static void append_file(char* to, size_t size, pid_t tid, const char* name, const char* from) {
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, name);
  FILE* file = fopen(path, "r");
  if (file == NULL) return;
  size_t length = fread(text, 1, sizeof text - 1, file);
  text[length] = '\0';
  fclose(file);
  const char* part = strstr(text, from);
  size_t used = strlen(to);
  if (part != NULL) snprintf(to + used, size - used, "\n%.400s", part);
}

static void fail_unanswered(const struct Pair* pair, int error) {
  char state[2048] = "";
  append_file(state, sizeof state, pair->waiter_tid, "status", "SigPnd");
  append_file(state, sizeof state, pair->waiter_tid, "syscall", "");
  append_file(state, sizeof state, pair->waiter_tid, "wchan", "");
  victim_fail("%s: after %ld signals (%ld received): %s%s", pair->sort->name, pair->sent, pair->received, strerror(error), state);
}

static void* send_body(void* argument) {
  struct Pair* pair = argument;
  while (__atomic_load_n(&pair->waiter_tid, __ATOMIC_SEQ_CST) == 0) victim_sleep_ms(1);
  while (!end_senders) {
    ++pair->sent;
    CHECK(pthread_kill(pair->waiter, SIGUSR1) == 0);
    int64_t until = now_ns(CLOCK_MONOTONIC) + 20000000000LL;
    struct timespec time = {until / 1000000000, until % 1000000000};
    if (sem_clockwait(&pair->answer, CLOCK_MONOTONIC, &time) != 0) fail_unanswered(pair, errno);
    if (pair->received != pair->sent) victim_fail("%s: %ld sent, %ld received", pair->sort->name, pair->sent, pair->received);
  }
  return NULL;
}

static int pair_count;

static void check(void) {
  long before[kMostPairs];
  for (int i = 0; i < pair_count; ++i) before[i] = pairs[i].received;
  for (int i = 0; i < pair_count; ++i) {
    for (int turn = 0; pairs[i].received == before[i]; ++turn) {
      if (turn > 4000) victim_fail("%s: stands at %ld", pairs[i].sort->name, before[i]);
      victim_sleep_ms(5);
    }
  }
}

int main(int argc, char** argv) {
  int of_each = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pair_count = of_each * kSorts;
  CHECK(pair_count <= kMostPairs);
  for (int i = 0; i < pair_count; ++i) {
    pairs[i].sort = &sorts[i % kSorts];
    sem_init(&pairs[i].answer, 0, 0);
    pairs[i].waiter = start_thread(wait_body, &pairs[i]);
    pairs[i].sender = start_thread(send_body, &pairs[i]);
  }
  victim_wait(check);
  for (int i = 0; victim_broken() && i < 10; ++i) {
    ++pairs[0].received;
    victim_sleep_ms(3);
  }
  check();
  end_senders = 1;
  for (int i = 0; i < pair_count; ++i) join_thread(pairs[i].sender);
  end_waiters = 1;
  for (int i = 0; i < pair_count; ++i) {
    // The waiter may have gone back into its wait.
    while (pthread_tryjoin_np(pairs[i].waiter, NULL) != 0) {
      pthread_kill(pairs[i].waiter, SIGUSR1);
      victim_sleep_ms(1);
    }
  }
  for (int i = 0; i < pair_count; ++i) printf("%s %ld\n", pairs[i].sort->name, pairs[i].received);
  victim_pass();
}
