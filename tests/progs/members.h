// Children that carry out orders of the first process: it has something done in one process and looks at it from another. Orders
// and answers go through pipes. A child may take its time over an order, and the first process ask meanwhile whether it is through.
#pragma once

#include "victim.h"

#include <poll.h>
#include <sys/wait.h>

struct Member {
  pid_t pid;
  int ask, answer;
};

__attribute__((noreturn)) static inline void member_serve(int ask, int answer, long (*obey)(int order)) {
  char order;
  while (read(ask, &order, 1) == 1 && order != 'q') {
    long result = obey(order);
    if (write(answer, &result, sizeof result) != sizeof result) _exit(3);
  }
  _exit(0);
}

static inline struct Member member_start(long (*obey)(int order)) {
  int ask[2], answer[2];
  CHECK(pipe(ask) == 0 && pipe(answer) == 0);
  struct Member member = {fork(), ask[1], answer[0]};
  CHECK(member.pid >= 0);
  if (member.pid == 0) {
    close(ask[1]);
    close(answer[0]);
    member_serve(ask[0], answer[1], obey);
  }
  close(ask[0]);
  close(answer[1]);
  return member;
}

static inline void member_tell(const struct Member* member, char order) { CHECK(write(member->ask, &order, 1) == 1); }

static inline int member_is_through_in(const struct Member* member, int milliseconds) {
  struct pollfd entry = {member->answer, POLLIN, 0};
  return poll(&entry, 1, milliseconds) == 1;
}

static inline int member_is_through(const struct Member* member) { return member_is_through_in(member, 0); }

static inline long member_answer(const struct Member* member) {
  long result;
  if (read(member->answer, &result, sizeof result) != sizeof result) victim_fail("member %d does not answer", (int)member->pid);
  return result;
}

static inline long member_do(const struct Member* member, char order) {
  member_tell(member, order);
  return member_answer(member);
}

static inline void member_end(const struct Member* member) {
  int status;
  member_tell(member, 'q');
  CHECK(waitpid(member->pid, &status, 0) == member->pid);
  if (status != 0) victim_fail("member %d ended with status %#x", (int)member->pid, status);
  close(member->ask);
  close(member->answer);
}

// Whether another process sleeps in this system call: it has come to where it is to wait.
static inline int is_in_call(pid_t pid, long call) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
  return read_file(path, text, sizeof text) > 0 && text[0] >= '0' && text[0] <= '9' && atol(text) == call;
}

static inline void await_call(pid_t pid, long call) {
  for (int turn = 0; !is_in_call(pid, call); ++turn) {
    if (turn == 10000) victim_fail("process %d is not in call %ld", (int)pid, call);
    victim_sleep_ms(1);
  }
}
