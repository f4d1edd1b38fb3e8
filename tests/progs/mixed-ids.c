// A privileged program whose real, effective, saved and file system ids differ. Only root can run it.
#include "victim.h"

#include <grp.h>
#include <sys/fsuid.h>

static uid_t uids[4] = {0, 0, 12346, 0};
static const gid_t gids[4] = {23456, 23457, 23458, 23459};
static const gid_t groups[2] = {111, 222};

static void check(void) {
  uid_t u[4];
  gid_t g[4], now[8];
  CHECK(getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0);
  u[3] = (uid_t)setfsuid((uid_t)-1);
  g[3] = (gid_t)setfsgid((gid_t)-1);
  for (int i = 0; i < 4; ++i) {
    if (u[i] != uids[i]) victim_fail("user id %d is %u instead of %u", i, u[i], uids[i]);
    if (g[i] != gids[i]) victim_fail("group id %d is %u instead of %u", i, g[i], gids[i]);
  }
  CHECK(getgroups(8, now) == 2 && now[0] == groups[0] && now[1] == groups[1]);
}

int main(void) {
  if (getuid() != 0) return 77;
  CHECK(setgroups(2, groups) == 0);
  CHECK(setresgid(gids[0], gids[1], gids[2]) == 0 && setresuid(uids[0], uids[1], uids[2]) == 0);
  setfsgid(gids[3]);
  victim_wait(check);
  if (victim_broken()) uids[0] = 1;
  check();
  victim_pass();
}
