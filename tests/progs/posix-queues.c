// POSIX message queues: messages with priorities, in order; two descriptions of one queue; one that has lost its name, through
// which a child answers; a full one with a sender that waits. `remove NAME` removes what a killed program has left.
#include "sysv.h"

#include <mqueue.h>
#include <poll.h>

enum { kMost = 8, kSize = 256, kMessages = 7 };

static mqd_t queue, reader, orders, answers, full;
static uint64_t turn;
static volatile int has_sent;
static pid_t child;

static mqd_t make(const char* kind, int flags, int keeps_name) {
  char name[64];
  struct mq_attr attributes = {.mq_maxmsg = kMost, .mq_msgsize = kSize};
  snprintf(name, sizeof name, "/ckpt-%s-%d", kind, getpid());
  mqd_t made = mq_open(name, O_CREAT | O_EXCL | flags, 0640, &attributes);
  CHECK(made >= 0);
  if (!keeps_name) CHECK(mq_unlink(name) == 0);
  if (keeps_name) {
    char path[4200];
    snprintf(path, sizeof path, "%s/../ipc-left", getenv("VICTIM_DIR"));
    FILE* list = fopen(path, "a");
    CHECK(list != NULL && fprintf(list, "-P %s\n", name) > 0 && fclose(list) == 0);
    reader = mq_open(name, O_RDONLY | O_NONBLOCK);
    CHECK(reader >= 0);
  }
  return made;
}

static unsigned priority_of(int number) { return (unsigned)(number * 5 % 3); }
static size_t size_of(int number) { return (size_t)number * 32; }

static void put(mqd_t to, int number, uint64_t seed) {
  uint64_t words[kSize / 8];
  pattern_fill(words, size_of(number), seed);
  CHECK(mq_send(to, (char*)words, size_of(number), priority_of(number)) == 0);
}

static void take(mqd_t from, int number, uint64_t seed) {
  uint64_t words[kSize / 8];
  unsigned priority = 99;
  CHECK(mq_receive(from, (char*)words, kSize, &priority) == (ssize_t)size_of(number));
  CHECK(priority == priority_of(number) && pattern_holds(words, size_of(number), seed));
}

static void* send_more(void* unused) {
  put(full, 3, 500);
  has_sent = 1;
  return unused;
}

static void fill(void) {
  for (int i = 0; i < kMessages; ++i) put(queue, i, turn * 10 + (uint64_t)i);
}

// By priority, and among equal ones in the order in which they came.
static void drain(void) {
  for (int priority = 2; priority >= 0; --priority) {
    for (int i = 0; i < kMessages; ++i) {
      if (priority_of(i) == (unsigned)priority) take(reader, i, turn * 10 + (uint64_t)i);
    }
  }
}

static void serve(void) {
  char text[kSize];
  end_with_parent();
  while (mq_receive(orders, text, kSize, NULL) == 1 && text[0] != 'q') {
    ++text[0];
    if (mq_send(answers, text, 1, 0) != 0) break;
  }
  _exit(text[0] == 'q' ? 3 : 4);
}

static void check(void) {
  struct mq_attr now;
  struct stat status;
  char text[kSize];
  CHECK(mq_getattr(queue, &now) == 0 && now.mq_maxmsg == kMost && now.mq_msgsize == kSize && now.mq_flags == 0);
  CHECK(now.mq_curmsgs == kMessages && mq_getattr(reader, &now) == 0 && now.mq_flags == O_NONBLOCK);
  CHECK(fstat(queue, &status) == 0 && (status.st_mode & 0777) == 0640);
  struct pollfd polled = {reader, POLLIN, 0};
  CHECK(poll(&polled, 1, 0) == 1);
  drain();
  CHECK(mq_receive(reader, text, kSize, NULL) == -1 && errno == EAGAIN && mq_send(reader, text, 1, 0) == -1 && errno == EBADF);
  ++turn;
  fill();
  CHECK(mq_send(orders, "a", 1, 0) == 0 && mq_receive(answers, text, kSize, NULL) == 1 && text[0] == 'b' && !has_sent);
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "remove") == 0) {
    mq_unlink(argv[2]);
    return 0;
  }
  queue = make("queue", O_RDWR, 1);
  orders = make("orders", O_RDWR, 0);
  answers = make("answers", O_RDWR, 0);
  full = make("full", O_RDWR, 0);
  umask(022);
  fill();
  for (int i = 0; i < kMost; ++i) put(full, 2, 300 + (uint64_t)i);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) serve();
  pthread_t sender = start_thread(send_more, NULL);
  victim_sleep_ms(50);
  victim_wait(check);
  if (victim_broken()) put(queue, 0, 1);
  check();
  for (int i = 0; i < kMost; ++i) take(full, 2, 300 + (uint64_t)i);
  join_thread(sender);
  take(full, 3, 500);
  int status = 0;
  CHECK(mq_send(orders, "q", 1, 0) == 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
  char name[64];
  snprintf(name, sizeof name, "/ckpt-queue-%d", getpid());
  CHECK(mq_unlink(name) == 0);
  victim_pass();
}
