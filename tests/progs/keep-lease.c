// keep-lease FILE: whoever opens the file waits from now on, until this ends. Makes `leased` in $VICTIM_DIR, and `awaited` when
// somebody waits. Nobody may have the file open.
#include "victim.h"

int main(int argc, char** argv) {
  CHECK(argc == 2);
  int signal, fd = open(argv[1], O_RDWR | O_CLOEXEC);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  CHECK(fd >= 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
  victim_write("leased", "leased\n");
  CHECK(sigwait(&set, &signal) == 0);
  victim_write("awaited", "awaited\n");
  for (;;) pause();
}
