// Locks on files (flock, of a process, of an open file) that one process holds while another one sleeps for each: nobody comes
// through before the holder lets go, and then everybody does. A third one has one lock by the description that it inherited.
#include "members.h"

#include <sys/file.h>

enum { kWhole, kProcess, kOpenFile, kKinds };

static const char* const names[kKinds] = {"whole", "process", "open-file"};
static int held[kKinds];
static struct Member holder, heir, waiters[kKinds];

static int set_lock(int fd, int kind, short type, int waits) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
  if (kind == kWhole) return flock(fd, (type == F_UNLCK ? LOCK_UN : LOCK_EX) | (waits ? 0 : LOCK_NB));
  if (kind == kProcess) return fcntl(fd, waits ? F_SETLKW : F_SETLK, &lock);
  return fcntl(fd, waits ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
}

static long obey_holder(int order) {
  for (int i = 0; i < kKinds; ++i) CHECK(set_lock(held[i], i, order == 'h' ? F_WRLCK : F_UNLCK, 0) == 0);
  return 0;
}

// The lock of an open file belongs to all who have it: asked again, it is had already.
static long obey_heir(int order) {
  (void)order;
  return flock(held[kWhole], LOCK_EX | LOCK_NB) != 0 || set_lock(held[kOpenFile], kOpenFile, F_WRLCK, 0) != 0;
}

static long obey_waiter(int kind) {
  int fd = open(victim_path(names[kind - '0']), O_RDWR);
  CHECK(fd >= 0 && set_lock(fd, kind - '0', F_WRLCK, 1) == 0);
  return close(fd);
}

static void expect_held(int kind) {
  int fd = open(victim_path(names[kind]), O_RDWR);
  CHECK(fd >= 0);
  if (set_lock(fd, kind, F_WRLCK, 0) == 0) victim_fail("%s: nobody has the lock", names[kind]);
  if (kind == kProcess) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 14, .l_len = 1};
    CHECK(fcntl(fd, F_GETLK, &lock) == 0);
    if (lock.l_type != F_WRLCK || lock.l_pid != holder.pid) victim_fail("the lock is of process %d", lock.l_pid);
  }
  close(fd);
}

static void check(void) {
  for (int i = 0; i < kKinds; ++i) {
    expect_held(i);
    if (member_is_through(&waiters[i])) victim_fail("%s: the waiter came through", names[i]);
  }
  if (member_do(&heir, 'a') != 0) victim_fail("a lock of the open file is not that of who shares it");
}

int main(void) {
  // Opened below the numbers of the members' pipes, and not touched in this process: closing one would end a lock.
  for (int i = 0; i < kKinds; ++i) CHECK((held[i] = open(victim_path(names[i]), O_RDWR | O_CREAT, 0600)) >= 0);
  holder = member_start(obey_holder);
  member_do(&holder, 'h');
  heir = member_start(obey_heir);
  for (int i = 0; i < kKinds; ++i) {
    waiters[i] = member_start(obey_waiter);
    member_tell(&waiters[i], (char)('0' + i));
    await_call(waiters[i].pid, i == kWhole ? SYS_flock : SYS_fcntl);
  }
  victim_wait(check);
  if (victim_broken()) {
    member_do(&holder, 'u');
    member_is_through_in(&waiters[kWhole], 20000);  // for it to show
  }
  check();
  member_do(&holder, 'u');
  for (int i = 0; i < kKinds; ++i) {
    member_answer(&waiters[i]);
    member_end(&waiters[i]);
  }
  member_end(&heir);
  member_end(&holder);
  victim_pass();
}
