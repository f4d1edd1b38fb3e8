// pidfd: opened again when its process is there; one of a process that is gone is that of a child that ends at once.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "lib/resources/files/rebuild.h"
#include "lib/resources/pidfd/record.h"

namespace ckpt {

bool is_pidfd_of_other(const RestartPlan& plan, const Description& description) {
  if (description.record.kind != format::DescriptionKind::kPidFd) return false;
  const auto state = state_of<format::PidFdState>(description);
  return state.pid >= 0 && state.pid != plan.owner_of(description).process.pid;
}

int rebuild_pidfd(const RestartPlan& plan, const Description& description) {
  const auto state = state_of<format::PidFdState>(description);
  // Without a signal at its end, which the program would see.
  const auto pid = state.pid >= 0 ? plan.new_number(state.pid) : static_cast<pid_t>(syscall(SYS_clone, 0, 0, 0, 0, 0));
  if (pid == 0) _exit(0);
  const auto fd = static_cast<int>(syscall(SYS_pidfd_open, pid, state.is_thread != 0 ? O_EXCL : 0));
  const int error = errno;
  if (state.pid < 0) waitpid(pid, nullptr, __WALL);
  if (fd < 0) throw Error::from_errno("create", "a pidfd", error, ExitCode::kRunner);
  return fd;
}

}  // namespace ckpt
