// eventfd: made again with its count.
#include <sys/eventfd.h>

#include <cerrno>

#include "lib/resources/eventfd/record.h"
#include "lib/resources/files/rebuild.h"

namespace ckpt {

int rebuild_eventfd(const RestartPlan&, const Description& description) {
  const auto state = state_of<format::EventFdState>(description);
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (state.is_semaphore != 0 ? EFD_SEMAPHORE : 0));
  if (fd < 0) throw Error::from_errno("create", "an eventfd", errno, ExitCode::kRunner);
  if (state.count > 0 && eventfd_write(fd, state.count) != 0)
    throw Error::from_errno("fill", "an eventfd", errno, ExitCode::kRunner);
  return fd;
}

}  // namespace ckpt
