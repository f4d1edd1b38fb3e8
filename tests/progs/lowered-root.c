// Started by root, gone on with the effective rights of an ordinary user, and root in reserve (the saved user id), with two threads
// and a file that only root can open. Checks its ids in both threads, and that it can go up and down.
#include "victim.h"

#include <grp.h>
#include <pthread.h>
#include <sys/syscall.h>

static uid_t user = 65534;
static int secret;
static volatile int is_asked, has_answered;

static void check_ids(void) {
  uid_t now[3];
  CHECK(syscall(SYS_getresuid, &now[0], &now[1], &now[2]) == 0);
  CHECK(now[0] == user && now[1] == user && now[2] == 0);
}

static void *live(void *unused) {
  for (int seen = 0;;) {
    for (; is_asked == seen; usleep(1000)) {}
    seen = is_asked;
    check_ids();
    has_answered = seen;
  }
  return unused;
}

static void check(void) {
  char byte;
  check_ids();
  ++is_asked;
  for (; has_answered != is_asked; usleep(1000)) {}
  CHECK(pread(secret, &byte, 1, 0) == 1 && open("/etc/shadow", O_RDONLY) < 0);
  CHECK(seteuid(0) == 0 && close(open("/etc/shadow", O_RDONLY)) == 0);
  CHECK(seteuid(user) == 0);
}

int main(void) {
  pthread_t thread;
  if (getuid() != 0) return 77;
  secret = open("/etc/shadow", O_RDONLY);
  if (secret < 0) return 77;
  CHECK(pthread_create(&thread, NULL, live, NULL) == 0);
  CHECK(setgroups(1, (gid_t[]){65534}) == 0 && setresgid(65534, 65534, 0) == 0 && setresuid(user, user, 0) == 0);
  victim_wait(check);
  if (victim_broken()) ++user;
  check();
  victim_pass();
}
