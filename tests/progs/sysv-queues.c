// System V message queues: messages of several types and sizes, an empty one, in order; key, id, mode, limit; a full queue with a
// sender that waits, and an empty one with a receiver that waits.
#include "sysv.h"

#include <sys/msg.h>

enum { kMessages = 8, kSize = 2000 };

struct Message {
  long type;
  uint64_t words[kSize / 8];
};

static int queue, full, empty;
static struct msqid_ds facts;
static uint64_t turn;
static volatile int has_sent, has_received;

static size_t size_of(int number) { return number == 3 ? 0 : (size_t)(number * 200 + number % 3) / 8 * 8; }

static void put(int id, long type, size_t size, uint64_t seed) {
  struct Message message = {type, {0}};
  pattern_fill(message.words, size, seed);
  CHECK(msgsnd(id, &message, size, 0) == 0);
}

static void take(int id, long type, long expected, size_t size, uint64_t seed) {
  struct Message message;
  CHECK(msgrcv(id, &message, sizeof message.words, type, IPC_NOWAIT) == (ssize_t)size);
  CHECK(message.type == expected && pattern_holds(message.words, size, seed));
}

static void* send_more(void* unused) {
  put(full, 9, kSize, 77);
  has_sent = 1;
  return unused;
}

static void* receive(void* unused) {
  struct Message message;
  CHECK(msgrcv(empty, &message, sizeof message.words, 5, 0) == 16 && pattern_holds(message.words, 16, 5));
  has_received = 1;
  return unused;
}

static void fill(void) {
  for (int i = 0; i < kMessages; ++i) put(queue, 1 + i % 3, size_of(i), turn * 100 + (uint64_t)i);
}

static void drain(void) {
  take(queue, 2, 2, size_of(1), turn * 100 + 1);
  take(queue, 2, 2, size_of(4), turn * 100 + 4);
  for (int i = 0; i < kMessages; ++i) {
    if (i != 1 && i != 4) take(queue, 0, 1 + i % 3, size_of(i), turn * 100 + (uint64_t)i);
  }
}

static void check(void) {
  struct msqid_ds now;
  CHECK(msgctl(queue, IPC_STAT, &now) == 0);
  CHECK(now.msg_perm.__key == facts.msg_perm.__key && now.msg_perm.mode == facts.msg_perm.mode);
  CHECK(now.msg_qnum == facts.msg_qnum && now.__msg_cbytes == facts.__msg_cbytes && now.msg_qbytes == facts.msg_qbytes);
  if (turn == 0 && !is_restarted()) {
    CHECK(now.msg_stime == facts.msg_stime && now.msg_rtime == facts.msg_rtime && now.msg_ctime == facts.msg_ctime);
    CHECK(now.msg_lspid == facts.msg_lspid && now.msg_lrpid == facts.msg_lrpid);
  }
  CHECK(msgget(key_of(1), 0) == queue && !has_sent && !has_received);
  drain();
  ++turn;
  fill();
}

int main(void) {
  queue = note_object("-q", msgget(key_of(1), IPC_CREAT | IPC_EXCL | 0640));
  full = note_object("-q", msgget(IPC_PRIVATE, 0600));
  empty = note_object("-q", msgget(IPC_PRIVATE, 0600));
  CHECK(msgctl(full, IPC_STAT, &facts) == 0);
  facts.msg_qbytes = 3 * kSize;
  CHECK(msgctl(full, IPC_SET, &facts) == 0);
  for (int i = 0; i < 3; ++i) put(full, 8, kSize, (uint64_t)i);
  fill();
  CHECK(msgctl(queue, IPC_STAT, &facts) == 0);
  pthread_t sender = start_thread(send_more, NULL);
  pthread_t receiver = start_thread(receive, NULL);
  victim_sleep_ms(50);
  victim_wait(check);
  if (victim_broken()) put(queue, 1, 8, 1);
  check();
  for (int i = 0; i < 3; ++i) take(full, 0, 8, kSize, (uint64_t)i);
  join_thread(sender);
  take(full, 0, 9, kSize, 77);
  put(empty, 5, 16, 5);
  join_thread(receiver);
  CHECK(has_sent && has_received);
  for (int id = 0; id < 3; ++id) CHECK(msgctl((int[]){queue, full, empty}[id], IPC_RMID, NULL) == 0);
  victim_pass();
}
