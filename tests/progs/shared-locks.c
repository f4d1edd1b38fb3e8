// Locks that processes share by memory, held and waited for: mutexes of every kind, a condition variable, a barrier, semaphores
// without a name, and one that was opened by name. One process holds, a thread of another waits for each; the first one asks for
// both to go on.
#include "members.h"

#include <semaphore.h>

enum { kPlain, kRecursive, kRobust, kPi, kRobustPi, kMutexes };

struct Shared {
  pthread_mutex_t mutexes[kMutexes], dying, left, around;
  pthread_cond_t condition;
  pthread_barrier_t barrier;
  pthread_rwlock_t either;
  sem_t semaphore;
  int is_told, order[kMutexes];
  _Atomic int passed;
};

static struct Shared* shared;
static sem_t* named;
static struct Member holder, waiter, dying;

static void make_mutex(pthread_mutex_t* mutex, int kind) {
  pthread_mutexattr_t how;
  CHECK(pthread_mutexattr_init(&how) == 0 && pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED) == 0);
  if (kind == kRecursive) CHECK(pthread_mutexattr_settype(&how, PTHREAD_MUTEX_RECURSIVE) == 0);
  if (kind == kRobust || kind == kRobustPi) CHECK(pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST) == 0);
  if (kind == kPi || kind == kRobustPi) CHECK(pthread_mutexattr_setprotocol(&how, PTHREAD_PRIO_INHERIT) == 0);
  CHECK(pthread_mutex_init(mutex, &how) == 0);
}

static void make_others(void) {
  pthread_condattr_t condition;
  pthread_barrierattr_t barrier;
  pthread_rwlockattr_t either;
  CHECK(pthread_condattr_init(&condition) == 0 && pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_cond_init(&shared->condition, &condition) == 0);
  CHECK(pthread_barrierattr_init(&barrier) == 0 && pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_barrier_init(&shared->barrier, &barrier, 2) == 0);
  CHECK(pthread_rwlockattr_init(&either) == 0 && pthread_rwlockattr_setpshared(&either, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_rwlock_init(&shared->either, &either) == 0);
  CHECK(sem_init(&shared->semaphore, 1, 0) == 0);
}

// Whoever opens it by its name has the same one. What is behind the semaphore in its page is ours to write to.
static char name[64];
static void check_name(void) {
  static char mark;
  char path[96];
  snprintf(path, sizeof path, "/dev/shm/sem.%s", name + 1);
  ((volatile char*)named)[200] = ++mark;
  int fd = open(path, O_RDWR);
  char* again = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
  if (again == MAP_FAILED || again[200] != mark) victim_fail("the semaphore %s is another one now", name);
  CHECK(munmap(again, PAGE) == 0 && close(fd) == 0);
}

static int stays;
static void open_named(void) {
  const char* directory = getenv("VICTIM_SEMAPHORE");
  snprintf(name, sizeof name, "/%s", directory != NULL ? directory : "ckpt-test-of-shared-locks");
  CHECK((named = sem_open(name, O_CREAT, 0600, 0)) != SEM_FAILED);
  if (!stays) CHECK(sem_unlink(name) == 0);
}

// --- the one who holds ---

static long hold(int order) {
  for (int i = 0; i < kMutexes; ++i) {
    pthread_mutex_t* mutex = &shared->mutexes[i];
    CHECK((order == 'h' ? pthread_mutex_lock(mutex) : pthread_mutex_unlock(mutex)) == 0);
    if (i == kRecursive) CHECK((order == 'h' ? pthread_mutex_lock(mutex) : pthread_mutex_unlock(mutex)) == 0);
  }
  CHECK((order == 'h' ? pthread_rwlock_wrlock(&shared->either) : pthread_rwlock_unlock(&shared->either)) == 0);
  return 0;
}

// Ends with a lock held: at once, or when it is asked to.
static long hold_until_death(int order) {
  if (order == 'x') _exit(0);
  return pthread_mutex_lock(&shared->dying);
}

static void leave_locked(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(pthread_mutex_lock(&shared->left));
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

// --- those who wait ---

static void* wait_mutex(void* argument) {
  pthread_mutex_t* mutex = argument;
  int error = pthread_mutex_lock(mutex);
  // Who held it was killed a moment before this process is: no time to complain.
  if (error == EOWNERDEAD) victim_sleep_ms(3000);
  if (error != 0) victim_fail("a lock that was waited for: %s", strerror(error));
  ++shared->passed;
  CHECK(pthread_mutex_unlock(mutex) == 0);
  return NULL;
}

static void* wait_dying(void* argument) {
  int error = pthread_mutex_lock(&shared->dying);
  if (error != EOWNERDEAD) victim_fail("the lock of one who died: %s", strerror(error));
  CHECK(pthread_mutex_consistent(&shared->dying) == 0 && pthread_mutex_unlock(&shared->dying) == 0);
  ++shared->passed;
  return argument;
}

static void* wait_condition(void* argument) {
  CHECK(pthread_mutex_lock(&shared->around) == 0);
  while (!shared->is_told) CHECK(pthread_cond_wait(&shared->condition, &shared->around) == 0);
  CHECK(pthread_mutex_unlock(&shared->around) == 0);
  ++shared->passed;
  return argument;
}

static void* wait_barrier(void* argument) {
  int result = pthread_barrier_wait(&shared->barrier);
  CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
  ++shared->passed;
  return argument;
}

static void* wait_either(void* argument) {
  CHECK(pthread_rwlock_rdlock(&shared->either) == 0 && pthread_rwlock_unlock(&shared->either) == 0);
  ++shared->passed;
  return argument;
}

static void* wait_semaphore(void* argument) {
  while (sem_wait(argument) != 0) CHECK(errno == EINTR);
  ++shared->passed;
  return NULL;
}

enum { kWaiters = kMutexes + 6 };

static long wait_for_all(int order) {
  static pthread_t threads[kWaiters];
  pthread_t* next = threads;
  if (order == 'j') {
    for (int i = 0; i < kWaiters; ++i) join_thread(threads[i]);
    return 0;
  }
  for (int i = 0; i < kMutexes; ++i) *next++ = start_thread(wait_mutex, &shared->mutexes[i]);
  *next++ = start_thread(wait_dying, NULL);
  *next++ = start_thread(wait_condition, NULL);
  *next++ = start_thread(wait_barrier, NULL);
  *next++ = start_thread(wait_either, NULL);
  *next++ = start_thread(wait_semaphore, &shared->semaphore);
  *next++ = start_thread(wait_semaphore, named);
  victim_sleep_ms(100);  // for them to come to where they wait; nothing hangs on it
  return 0;
}

// --- the first process ---

static void check(void) {
  for (int i = 0; i < kMutexes; ++i) {
    int error = pthread_mutex_trylock(&shared->mutexes[i]);
    if (error != EBUSY) victim_fail("mutex %d that is held: %s", i, strerror(error));
  }
  CHECK(pthread_mutex_trylock(&shared->dying) == EBUSY);
  CHECK(pthread_rwlock_trywrlock(&shared->either) == EBUSY);
  if (shared->passed != 0) victim_fail("%d came through what is held", shared->passed);
  int error = pthread_mutex_trylock(&shared->left);
  if (error != EOWNERDEAD) victim_fail("the lock of one who is dead: %s", strerror(error));
  CHECK(pthread_mutex_consistent(&shared->left) == 0 && pthread_mutex_unlock(&shared->left) == 0);
  leave_locked();
  if (stays) check_name();
}

static void let_go(void) {
  if (!victim_broken()) member_do(&holder, 'u');
  CHECK(waitpid(dying.pid, NULL, WNOHANG) == 0);
  member_tell(&dying, 'x');
  CHECK(waitpid(dying.pid, NULL, 0) == dying.pid);
  CHECK(pthread_mutex_lock(&shared->around) == 0);
  shared->is_told = 1;
  CHECK(pthread_cond_broadcast(&shared->condition) == 0 && pthread_mutex_unlock(&shared->around) == 0);
  wait_barrier(NULL);
  CHECK(sem_post(&shared->semaphore) == 0 && sem_post(named) == 0);
}

int main(int argc, char** argv) {
  shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  for (int i = 0; i < kMutexes; ++i) make_mutex(&shared->mutexes[i], i);
  make_mutex(&shared->dying, kRobust);
  make_mutex(&shared->left, kRobust);
  make_mutex(&shared->around, kPlain);
  make_others();
  stays = argc > 1 && strcmp(argv[1], "named") == 0;
  open_named();
  holder = member_start(hold);
  dying = member_start(hold_until_death);
  waiter = member_start(wait_for_all);
  member_do(&holder, 'h');
  member_do(&dying, 'h');
  member_do(&waiter, 'w');
  leave_locked();
  victim_wait(check);
  check();
  let_go();
  if (victim_broken()) {
    victim_sleep_ms(200);
    if (shared->passed != kWaiters + 1) victim_fail("only %d came through", shared->passed);
  }
  member_do(&waiter, 'j');
  if (shared->passed != kWaiters + 1) victim_fail("only %d came through", shared->passed);
  member_end(&holder);
  member_end(&waiter);
  victim_pass();
}
