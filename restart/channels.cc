// Nothing here survives an exec.
#include "restart/channels.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "lib/common/error.h"

namespace ckpt {

namespace {

void make_pair(int type, Fd& here, Fd& there) {
  int pair[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) != 0)
    throw Error::from_errno("create", "a socket", errno, ExitCode::kRunner);
  here = Fd(pair[0]);
  there = Fd(pair[1]);
}

}  // namespace

Channels make_channels() {
  Channels channels;
  make_pair(SOCK_SEQPACKET, channels.events_here, channels.events_there);
  make_pair(SOCK_STREAM, channels.leash_here, channels.leash_there);
  int pair[2];
  if (pipe2(pair, O_CLOEXEC) != 0) throw Error::from_errno("create", "a pipe", errno, ExitCode::kRunner);
  channels.report_here = Fd(pair[0]);
  channels.report_there = Fd(pair[1]);
  const int on = 1;
  setsockopt(channels.events_here.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
  return channels;
}

void send_event(int channel, Event event) {
  while (write(channel, &event, sizeof(event)) < 0 && errno == EINTR) {
  }
}

void tell(int channel, int status) {
  if (WIFSTOPPED(status)) send_event(channel, {Event::kStopped, status});
  if (WIFCONTINUED(status)) send_event(channel, {Event::kContinued, status});
  if (WIFEXITED(status) || WIFSIGNALED(status)) send_event(channel, {Event::kEnded, status});
}

}  // namespace ckpt
