// Started by root, gone on as an ordinary user for good (the argument; default: nobody), as daemons do. Checks that it is that
// user and nothing more: ids, groups, capabilities, and what it may open.
#include "victim.h"

#include <grp.h>

static uid_t user = 65534;
static gid_t groups[3] = {65534, 12345, 12346};

static void check(void) {
  uid_t uids[3];
  gid_t gids[3], now[8];
  CHECK(getresuid(&uids[0], &uids[1], &uids[2]) == 0 && getresgid(&gids[0], &gids[1], &gids[2]) == 0);
  for (int i = 0; i < 3; ++i) CHECK(uids[i] == user && gids[i] == user);
  int count = getgroups(8, now);
  for (int i = 0; i < count; ++i) CHECK(now[i] == groups[0] || now[i] == groups[1] || now[i] == groups[2]);
  char text[8192];
  CHECK(read_file("/proc/self/status", text, sizeof text) > 0);
  unsigned long long permitted = 1, effective = 1;
  sscanf(strstr(text, "CapPrm:"), "CapPrm: %llx", &permitted);
  sscanf(strstr(text, "CapEff:"), "CapEff: %llx", &effective);
  CHECK(permitted == 0 && effective == 0);
  CHECK(setuid(0) != 0 && open("/etc/shadow", O_RDONLY) < 0);
}

int main(void) {
  if (getuid() != 0) return 77;
  CHECK(setgroups(3, groups) == 0 && setgid(user) == 0 && setuid(user) == 0);
  victim_wait(check);
  if (victim_broken()) ++user;
  check();
  victim_pass();
}
