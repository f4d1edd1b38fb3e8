// fifo: a named pipe. Opened by its name, end by end; where all ends are within the program, the first brings what was in it.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "lib/resources/files/rebuild.h"

namespace ckpt {

namespace {

bool is_first_end(const RestartPlan& plan, const Description& description) {
  for (const Description& other : plan.process->descriptions) {
    const auto& record = other.record;
    if (record.kind != format::DescriptionKind::kFifo) continue;
    if (record.device == description.record.device && record.inode == description.record.inode) return &other == &description;
  }
  return true;
}

void fill(const RestartPlan& plan, const Description& description, int fd) {
  int unread = 0;
  if (ioctl(fd, FIONREAD, &unread) == 0 && unread > 0) {
    throw Error::plain("there is something of another program in the named pipe " + quote(description.path), ExitCode::kRunner);
  }
  const auto& record = description.record;
  if (record.size > 0 && fcntl(fd, F_SETPIPE_SZ, static_cast<int>(record.size)) < 0 && errno != EPERM)
    throw Error::from_errno("enlarge", description.path, errno, ExitCode::kRunner);
  if (record.content == 0) return;
  for (const auto& extent : plan.content_of(description).extents) {
    const auto bytes = plan.image->read_frame(extent.frame);
    if (write(fd, bytes.data() + extent.frame_offset, extent.size) != static_cast<ssize_t>(extent.size))
      throw Error::from_errno("fill", description.path, errno, ExitCode::kRunner);
  }
}

}  // namespace

int rebuild_fifo(const RestartPlan& plan, const Description& description) {
  const char* path = description.path.c_str();
  const auto state = state_of<format::FifoState>(description);
  Fd both;  // so that no end waits for the other
  if (state.had_writer != 0) {
    both = Fd(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!both.is_open()) throw Error::from_errno("open", description.path, errno, ExitCode::kRunner);
    if (state.leads_outside == 0 && is_first_end(plan, description)) fill(plan, description, both.get());
  }
  const int mode = static_cast<int>(description.record.status_flags) & O_ACCMODE;
  const int fd = open(path, mode | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw Error::from_errno("open", description.path, errno, ExitCode::kRunner);
  return fd;
}

}  // namespace ckpt
