// signalfd: made again with its mask, by the kernel's own call: libc's set has more bits.
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "lib/resources/files/rebuild.h"
#include "lib/resources/signalfd/record.h"

namespace ckpt {

int rebuild_signalfd(const RestartPlan&, const Description& description) {
  const auto state = state_of<format::SignalFdState>(description);
  const auto fd = static_cast<int>(syscall(SYS_signalfd4, -1, &state.mask, sizeof(state.mask), SFD_CLOEXEC | SFD_NONBLOCK));
  if (fd < 0) throw Error::from_errno("create", "a signalfd", errno, ExitCode::kRunner);
  return fd;
}

}  // namespace ckpt
