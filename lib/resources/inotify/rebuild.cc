// inotify: an empty instance. The restorer adds the watches when nothing is opened or written any more that they would see.
#include <sys/inotify.h>

#include <cerrno>

#include "lib/resources/files/rebuild.h"

namespace ckpt {

int rebuild_inotify(const RestartPlan&, const Description&) {
  const int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (fd < 0) throw Error::from_errno("create", "an inotify instance", errno, ExitCode::kRunner);
  return fd;
}

}  // namespace ckpt
