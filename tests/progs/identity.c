// Who the program is: everything it can ask about itself reads the same after a restart, and it has gained no capability.
#include "victim.h"

#include <grp.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>

extern char** environ;
enum { kThreads = 3 };

// Plain data, so that it can be compared as a whole; holes are zeroed.
static struct Identity {
  pid_t pid, tid, parent, group;
  pid_t tids[kThreads];
  uid_t uids[3];
  gid_t gids[3];
  gid_t groups[64];
  int group_count;
  int nice, dumpable, no_new_privs;
  mode_t umask;
  char cwd[4096];
  char program[4096];
  char name[64];
  char arguments[4096];
  char environment[65536];
  struct rlimit limits[RLIM_NLIMITS];
} before, now;

static struct Capabilities { unsigned long long inheritable, permitted, effective, ambient; } capabilities_before;

static pid_t tids[kThreads];
static sem_t asked, answered;
static volatile int end;
static char** argv_of_main;

static void* body(void* argument) {
  size_t self = (uintptr_t)argument;
  for (;;) {
    while (sem_wait(&asked) != 0) victim_fail("sem_wait: %s", strerror(errno));
    if (end) return NULL;
    tids[self] = gettid();
    sem_post(&answered);
    // Each thread answers once before the next round.
    while (!end && tids[self] != 0) victim_sleep_ms(1);
  }
}

static struct Capabilities read_capabilities(void) {
  static char text[8192];
  struct Capabilities found = {0, 0, 0, 0};
  CHECK(read_file("/proc/self/status", text, sizeof text) > 0);
  CHECK(sscanf(strstr(text, "CapInh:"), "CapInh: %llx", &found.inheritable) == 1);
  CHECK(sscanf(strstr(text, "CapPrm:"), "CapPrm: %llx", &found.permitted) == 1);
  CHECK(sscanf(strstr(text, "CapEff:"), "CapEff: %llx", &found.effective) == 1);
  CHECK(sscanf(strstr(text, "CapAmb:"), "CapAmb: %llx", &found.ambient) == 1);
  return found;
}

static void describe(struct Identity* identity) {
  memset(identity, 0, sizeof *identity);
  identity->pid = getpid();
  identity->tid = gettid();
  identity->parent = getppid();
  identity->group = getpgrp();
  for (int i = 0; i < kThreads; ++i) sem_post(&asked);
  for (int i = 0; i < kThreads; ++i) CHECK(sem_wait(&answered) == 0);
  for (int i = 0; i < kThreads; ++i) {
    identity->tids[i] = tids[i];
    tids[i] = 0;
  }
  CHECK(getresuid(&identity->uids[0], &identity->uids[1], &identity->uids[2]) == 0);
  CHECK(getresgid(&identity->gids[0], &identity->gids[1], &identity->gids[2]) == 0);
  identity->group_count = getgroups(64, identity->groups);
  identity->nice = getpriority(PRIO_PROCESS, 0);
  identity->dumpable = prctl(PR_GET_DUMPABLE);
  identity->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  identity->umask = umask(0);
  umask(identity->umask);
  CHECK(getcwd(identity->cwd, sizeof identity->cwd) != NULL);
  CHECK(readlink("/proc/self/exe", identity->program, sizeof identity->program - 1) > 0);
  CHECK(read_file("/proc/self/comm", identity->name, sizeof identity->name) > 0);
  CHECK(read_file("/proc/self/cmdline", identity->arguments, sizeof identity->arguments) > 0);
  CHECK(read_file("/proc/self/environ", identity->environment, sizeof identity->environment) > 0);
  for (int i = 0; i < RLIM_NLIMITS; ++i) CHECK(getrlimit(i, &identity->limits[i]) == 0);
}

static void expect_number(const char* what, long old, long new) {
  if (old != new) victim_fail("%s was %ld and is %ld", what, old, new);
}

static void expect_text(const char* what, const char* old, const char* new) {
  if (strcmp(old, new) != 0) victim_fail("%s was '%s' and is '%s'", what, old, new);
}

static void check(void) {
  describe(&now);
  expect_number("pid", before.pid, now.pid);
  expect_number("tid", before.tid, now.tid);
  for (int i = 0; i < kThreads; ++i) expect_number("tid of a thread", before.tids[i], now.tids[i]);
  expect_number("parent", before.parent, now.parent);
  expect_number("group", before.group, now.group);
  for (int i = 0; i < 3; ++i) expect_number("uid", before.uids[i], now.uids[i]);
  for (int i = 0; i < 3; ++i) expect_number("gid", before.gids[i], now.gids[i]);
  expect_number("number of groups", before.group_count, now.group_count);
  for (int i = 0; i < now.group_count; ++i) expect_number("supplementary group", before.groups[i], now.groups[i]);
  expect_number("nice", before.nice, now.nice);
  expect_number("dumpable", before.dumpable, now.dumpable);
  expect_number("no_new_privs", before.no_new_privs, now.no_new_privs);
  expect_number("umask", before.umask, now.umask);
  expect_text("working directory", before.cwd, now.cwd);
  expect_text("/proc/self/exe", before.program, now.program);
  expect_text("name", before.name, now.name);
  CHECK(memcmp(before.arguments, now.arguments, sizeof now.arguments) == 0);
  CHECK(memcmp(before.environment, now.environment, sizeof now.environment) == 0);
  for (int i = 0; i < RLIM_NLIMITS; ++i) {
    if (memcmp(&before.limits[i], &now.limits[i], sizeof(struct rlimit)) != 0) victim_fail("resource limit %d changed", i);
  }
  struct Capabilities capabilities = read_capabilities();
  CHECK((capabilities.inheritable & ~capabilities_before.inheritable) == 0);
  CHECK((capabilities.permitted & ~capabilities_before.permitted) == 0);
  CHECK((capabilities.effective & ~capabilities_before.effective) == 0);
  CHECK((capabilities.ambient & ~capabilities_before.ambient) == 0);
  CHECK(strcmp(argv_of_main[1], "an argument") == 0 && strcmp(argv_of_main[2], "") == 0);
  CHECK(getenv("VICTIM_NOTE") != NULL && strcmp(getenv("VICTIM_NOTE"), "a b=c") == 0);
  char link[32];
  ssize_t size = readlink("/proc/self", link, sizeof link - 1);
  CHECK(size > 0);
  link[size] = 0;
  expect_number("/proc/self", now.pid, strtol(link, NULL, 10));
}

int main(int argc, char** argv) {
  if (argc != 3) {
    // Once more with arguments and an environment worth looking at.
    setenv("VICTIM_NOTE", "a b=c", 1);
    execl("/proc/self/exe", argv[0], "an argument", "", (char*)NULL);
    return 2;
  }
  argv_of_main = argv;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 333;
  setrlimit(RLIMIT_NOFILE, &limit);
  mkdir(victim_path("a folder"), 0700);
  CHECK(chdir(victim_path("a folder")) == 0);
  umask(0177);  // folders that are made now may not be entered
  prctl(PR_SET_NAME, "an identity");
  CHECK(nice(1) != -1);
  sem_init(&asked, 0, 0);
  sem_init(&answered, 0, 0);
  pthread_t threads[kThreads];
  for (uintptr_t i = 0; i < kThreads; ++i) threads[i] = start_thread(body, (void*)i);
  describe(&before);
  capabilities_before = read_capabilities();
  victim_wait(check);
  if (victim_broken()) umask(0);
  check();
  end = 1;
  for (int i = 0; i < kThreads; ++i) sem_post(&asked);
  for (int i = 0; i < kThreads; ++i) join_thread(threads[i]);
  victim_pass();
}
