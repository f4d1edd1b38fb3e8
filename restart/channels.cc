// Nothing here survives an exec.
#include "restart/channels.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

bool receive_event(int channel, Event* event, pid_t* sender) {
  char room[CMSG_SPACE(sizeof(ucred))];
  iovec vector{event, sizeof(*event)};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof(room);
  *sender = 0;
  if (recvmsg(channel, &message, 0) != sizeof(*event)) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_CREDENTIALS) {
    ucred credentials{};
    std::memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
    *sender = credentials.pid;
  }
  return true;
}

// Each process may send a line: the first one counts.
bool read_report(int pipe, Report& report) {
  char buffer[512];
  const ssize_t count = read(pipe, buffer, sizeof(buffer));
  for (ssize_t i = 0; i < count; ++i) {
    if (buffer[i] == '\0') {
      ++report.ready;
    } else {
      report.text += buffer[i];
    }
  }
  const std::size_t end = report.text.find('\n');
  if (end != std::string::npos) throw Error::plain(report.text.substr(0, end), ExitCode::kRunner);
  return count > 0;
}

void tell(int channel, int status) {
  if (WIFSTOPPED(status)) send_event(channel, {Event::kStopped, status});
  if (WIFCONTINUED(status)) send_event(channel, {Event::kContinued, status});
  if (WIFEXITED(status) || WIFSIGNALED(status)) send_event(channel, {Event::kEnded, status});
}

}  // namespace ckpt
