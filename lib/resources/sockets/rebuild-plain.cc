// Raw, ping, UDP-Lite and MPTCP sockets: new ones, with the options and names they had.
#include <cerrno>

#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

using format::SocketStage;

Fd make_plain_socket(const Description& description) {
  const Socket socket = describe_socket(description);
  Fd fd = make_bound_socket(socket);
  if (socket.state.stage == SocketStage::kListening && listen(fd.get(), static_cast<int>(socket.state.backlog)) != 0)
    throw Error::from_errno("listen on", describe_address(local_name(socket.state)), errno, ExitCode::kRunner);
  const std::string remote = remote_name(socket.state);
  if (socket.state.stage == SocketStage::kConnected &&
      connect(fd.get(), reinterpret_cast<const sockaddr*>(remote.data()), static_cast<socklen_t>(remote.size())) != 0)
    throw Error::from_errno("connect a socket to", describe_address(remote), errno, ExitCode::kRunner);
  set_last_options(fd.get(), socket);
  return fd;
}

int rebuild_plain_socket(const RestartPlan&, const Description& description) { return make_plain_socket(description).release(); }

}  // namespace ckpt
