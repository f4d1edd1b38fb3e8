// The working directory has been removed under the program: it is in no place, nothing can be made there, and it can go elsewhere.
#include "victim.h"

static void check(void) {
  char path[4096];
  struct stat status;
  if (getcwd(path, sizeof path) != NULL) victim_fail("the folder is there again: %s", path);
  CHECK(errno == ENOENT);
  CHECK(stat(".", &status) == 0 && S_ISDIR(status.st_mode) && status.st_nlink == 0);
  CHECK(open("file", O_WRONLY | O_CREAT, 0600) < 0 && errno == ENOENT);
}

int main(void) {
  CHECK(mkdir(victim_path("folder"), 0700) == 0);
  CHECK(chdir(victim_path("folder")) == 0 && rmdir(victim_path("folder")) == 0);
  victim_wait(check);
  if (victim_broken()) CHECK(chdir("/") == 0);
  check();
  CHECK(chdir("/") == 0);
  victim_pass();
}
