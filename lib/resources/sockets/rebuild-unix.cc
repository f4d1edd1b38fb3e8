// Unix sockets: names and their files, pairs, connections.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "lib/resources/sockets/rebuild.h"
#include "restart/numbers.h"

namespace ckpt {

namespace {

using format::SocketStage;
using format::SocketState;

constexpr std::size_t kFamilySize = sizeof(sa_family_t);

bool is_named(const std::string& name) { return name.size() > kFamilySize; }

const sockaddr* address_of(const std::string& name) { return reinterpret_cast<const sockaddr*>(name.data()); }

Fd make_socket(const SocketState& state) {
  Fd fd(socket(AF_UNIX, static_cast<int>(state.type) | SOCK_CLOEXEC, static_cast<int>(state.protocol)));
  if (!fd.is_open()) throw Error::from_errno("create", "a unix socket", errno, ExitCode::kRunner);
  return fd;
}

std::string shown(const std::string& name) {
  const std::string path = unix_path_of(name);
  return path.empty() ? "@" + name.substr(kFamilySize + 1) : path;
}

// Folders of a path that are not there, the uppermost first.
std::vector<std::string> missing_folders(const std::string& path) {
  std::vector<std::string> missing;
  for (std::filesystem::path folder = std::filesystem::path(path).parent_path();
       folder.has_relative_path() && !std::filesystem::exists(folder); folder = folder.parent_path())
    missing.insert(missing.begin(), folder);
  return missing;
}

void remove_socket_file(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) unlink(path.c_str());
}

void rename_socket_file(const std::string& path, const SocketState& state) {
  const std::string to = unix_path_of(remote_name(state));
  remove_socket_file(to);
  if (chmod(path.c_str(), state.file_mode & 07777) != 0 ||
      renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0)
    throw Error::from_errno("rename a unix socket to", to, errno, ExitCode::kRunner);
}

SocketState nameless(SocketState state) {
  state.local_size = 0;
  state.flags &= ~SocketState::kIsRenamed;
  return state;
}

// By which it is connected to.
std::string reachable_name(const SocketState& state) {
  return (state.flags & SocketState::kIsRenamed) != 0 ? remote_name(state) : local_name(state);
}

// The one who listens is the one whom those are told of who connect.
void listen_as(pid_t maker, int fd, std::uint32_t backlog) {
  int unused[2];
  const int error = call_as(maker, unused, [&](auto&) { return listen(fd, static_cast<int>(backlog)) != 0 ? errno : 0; });
  if (error != 0) throw Error::from_errno("listen on", "a unix socket", error, ExitCode::kRunner);
}

void connect_as(pid_t maker, int fd, const std::string& name) {
  int unused[2];
  const int error = call_as(
      maker, unused, [&](auto&) { return connect(fd, address_of(name), static_cast<socklen_t>(name.size())) != 0 ? errno : 0; });
  if (error != 0) throw Error::from_errno("connect to", shown(name), error, ExitCode::kRunner);
}

std::pair<Fd, Fd> make_pair_as(pid_t maker, const SocketState& like) {
  int pair[2] = {-1, -1};
  const int error = call_as(maker, pair, [&](int(&made)[2]) {
    return socketpair(AF_UNIX, static_cast<int>(like.type) | SOCK_CLOEXEC, static_cast<int>(like.protocol), made) != 0 ? errno : 0;
  });
  if (error != 0) throw Error::from_errno("create", "a pair of unix sockets", error, ExitCode::kRunner);
  return {Fd(pair[0]), Fd(pair[1])};
}

}  // namespace

std::string unix_path_of(const std::string& name) {
  if (!is_named(name) || name[kFamilySize] == '\0') return "";
  return {name.data() + kFamilySize, strnlen(name.data() + kFamilySize, name.size() - kFamilySize)};
}

bool is_unix_name_taken(const std::string& name) {
  std::ifstream file("/proc/net/unix");
  const std::string wanted = shown(name);
  for (std::string line; std::getline(file, line);) {
    if (line.size() > wanted.size() && line.ends_with(" " + wanted)) return true;
  }
  return false;
}

// connect(2) tells a socket of another type from one that is gone: unix(7), EPROTOTYPE.
bool is_socket_file_used(const std::string& path, std::uint32_t type) {
  const Fd probe(socket(AF_UNIX, (type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) return false;
  path.copy(name.sun_path, path.size());
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 && errno == EPROTOTYPE;
}

// Gives the socket its name. The file of a path is made again with its mode; where it was gone, it is there for the moment only.
void Sockets::bind_unix(int fd, const std::string& name, const SocketState& state) {
  if (!is_named(name)) return;
  const std::string path = unix_path_of(name);
  const bool keeps_file = (state.flags & SocketState::kHasFile) != 0;
  const bool has_successor = std::ranges::any_of(sockets_, [&](const Socket& other) {
    return other.is_unix() && !other.own.is_open() && (other.state.flags & SocketState::kHasFile) != 0 &&
           local_name(other.state) == name;
  });
  if (!path.empty() && (keeps_file || has_successor || gone_files_.contains(path))) remove_socket_file(path);
  if (!path.empty() && !keeps_file) {
    for (const std::string& folder : missing_folders(path)) {
      if (mkdir(folder.c_str(), 0700) == 0) gone_folders_.push_back(folder);
    }
  }
  if (bind(fd, address_of(name), static_cast<socklen_t>(name.size())) != 0)
    throw Error::from_errno("bind a unix socket to", shown(name), errno, ExitCode::kRunner);
  if (path.empty()) return;
  if ((state.flags & SocketState::kIsRenamed) != 0) return rename_socket_file(path, state);
  if (keeps_file) gone_files_.erase(path);
  if (!keeps_file) {
    gone_files_.insert(path);
  } else if (chmod(path.c_str(), state.file_mode & 07777) != 0) {
    throw Error::from_errno("set the mode of", path, errno, ExitCode::kRunner);
  }
}

void Sockets::remove_gone_files() {
  for (const std::string& path : gone_files_) remove_socket_file(path);
  gone_files_.clear();
  for (; !gone_folders_.empty(); gone_folders_.pop_back()) rmdir(gone_folders_.back().c_str());
}

// The one that has the file, or else the last: files of names that were gone are made in this order, each for the moment.
Socket* Sockets::find_by_name(const std::string& name, bool is_listening) {
  Socket* found = nullptr;
  for (Socket& socket : sockets_) {
    if (!socket.is_unix() || local_name(socket.state) != name) continue;
    if ((socket.state.stage == SocketStage::kListening) != is_listening) continue;
    found = &socket;
    if ((socket.state.flags & SocketState::kHasFile) != 0) break;
  }
  return found;
}

// Another listening socket has its name now: nobody can connect to it when that is bound.
bool Sockets::is_shadowed(const Socket& socket) {
  const bool is_renamed = (socket.state.flags & SocketState::kIsRenamed) != 0;
  return socket.state.stage == SocketStage::kListening && !is_renamed && find_by_name(local_name(socket.state), true) != &socket;
}

void Sockets::make_unix_idle(Socket& socket) {
  socket.own = make_socket(socket.state);
  set_early_options(socket.own.get(), socket);
  bind_unix(socket.own.get(), local_name(socket.state), socket.state);
  if (socket.state.stage == SocketStage::kListening) listen_as(socket.peer_process(), socket.own.get(), socket.state.backlog);
}

// A copy of the listening socket with this name, or one for the moment.
Fd Sockets::find_or_make_listener(const SocketState& to, pid_t maker) {
  const Socket* known = find_by_name(local_name(to), true);
  if (known != nullptr && known->state.type == to.type) return Fd(fcntl(known->own.get(), F_DUPFD_CLOEXEC, 0));
  Fd listener = make_socket(to);
  const std::string path = unix_path_of(local_name(to));
  if (gone_files_.contains(path)) remove_socket_file(path);  // of an earlier one
  bind_unix(listener.get(), local_name(to), to);
  listen_as(maker, listener.get(), 1);
  return listener;
}

// Both ends of a connection, the one of `from` first. Where the accepting end has a name, it comes from its listening socket.
std::pair<Fd, Fd> Sockets::connect_unix(const SocketState& from, const SocketState& to, Makers makers) {
  const std::string name = local_name(to);
  // An accepted connection of a server that is not part of the job, and lives: its name is left alone.
  const bool is_foreign = is_named(name) && find_by_name(name, true) == nullptr && is_unix_name_taken(name);
  if (is_foreign) return connect_unix(from, nameless(to), makers);
  if (to.type == SOCK_DGRAM || !is_named(name)) {
    if (to.type != SOCK_DGRAM && is_named(local_name(from))) {
      auto [first, second] = connect_unix(to, from, {makers.to, makers.from});
      return {std::move(second), std::move(first)};
    }
    auto made = make_pair_as(makers.from, from);
    bind_unix(made.first.get(), local_name(from), from);
    bind_unix(made.second.get(), name, to);
    return made;
  }
  Fd client = make_socket(from);
  bind_unix(client.get(), local_name(from), from);
  const Fd listener = find_or_make_listener(to, makers.to);
  const Socket* known = find_by_name(name, true);
  connect_as(makers.from, client.get(), known != nullptr ? reachable_name(known->state) : name);
  Fd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!server.is_open()) throw Error::from_errno("accept on", shown(name), errno, ExitCode::kRunner);
  return {std::move(client), std::move(server)};
}

void Sockets::make_unix_pair(Socket& socket) {
  Socket* peer = find(socket.state.peer);
  if (peer == nullptr) throw Error::plain("the other end of a unix socket is not in the image", ExitCode::kRunner);
  // Datagrams: connected when all are there.
  if (peer == &socket || peer->state.peer != socket.inode()) return make_unix_idle(socket);
  auto [own, other] = connect_unix(socket.state, peer->state, {peer->peer_process(), socket.peer_process()});
  socket.own = std::move(own);
  peer->own = std::move(other);
  set_early_options(socket.own.get(), socket);
  set_early_options(peer->own.get(), *peer);
}

// The other end is gone, or will be: an end of ours stands in for it until all that it had sent has gone through. It has the name
// of the real one where nobody else has that now.
void Sockets::make_unix_ended(Socket& socket) {
  SocketState gone{};
  gone.type = socket.state.type;
  gone.protocol = socket.state.protocol;
  auto [own, far] = connect_unix(socket.state, gone, {socket.peer_process(), socket.peer_process()});
  socket.own = std::move(own);
  socket.far = std::move(far);
  set_early_options(socket.own.get(), socket);
}

// Those who wait at one listening socket, or (0) all who are not there yet.
void Sockets::make_unix_waiting(std::uint64_t listening) {
  std::map<std::pair<std::uint64_t, std::uint32_t>, Socket*> waiting;  // by listening socket and place in its queue
  for (Socket& socket : sockets_) {
    if (!socket.is_unix() || socket.state.stage != SocketStage::kWaiting || socket.own.is_open()) continue;
    if (listening == 0 || listening == socket.state.peer) waiting[{socket.state.peer, socket.state.backlog}] = &socket;
  }
  for (auto& [place, socket] : waiting) {
    const Socket* listener = find(place.first);
    if (listener == nullptr) throw Error::plain("a listening unix socket is not in the image", ExitCode::kRunner);
    socket->own = make_socket(socket->state);
    set_early_options(socket->own.get(), *socket);
    bind_unix(socket->own.get(), local_name(socket->state), socket->state);
    // Nobody tells who has connected: as a rule the one who has it open.
    connect_as(plan_.owner_of(*socket->description).process.pid, socket->own.get(), reachable_name(listener->state));
  }
}

void Sockets::make_unix() {
  for (const std::uint32_t has_file : {0U, SocketState::kHasFile}) {  // a name may have gone over to another of ours
    for (Socket& socket : sockets_) {
      if (!socket.is_unix() || (socket.state.flags & SocketState::kHasFile) != has_file) continue;
      if (socket.state.stage != SocketStage::kIdle && socket.state.stage != SocketStage::kListening) continue;
      make_unix_idle(socket);
      if (is_shadowed(socket)) make_unix_waiting(socket.inode());
    }
  }
  for (Socket& socket : sockets_) {
    if (!socket.is_unix() || socket.own.is_open()) continue;
    const bool leads_outside = (socket.state.flags & SocketState::kLeadsOutside) != 0;
    if (socket.state.stage == SocketStage::kConnected && !leads_outside) make_unix_pair(socket);
    if (socket.state.stage == SocketStage::kEnded || leads_outside) make_unix_outside(socket);
  }
  make_unix_waiting(0);
}

// A datagram socket that leads to a service (that of syslog, say) is connected to it again, if it is there.
void Sockets::make_unix_outside(Socket& socket) {
  const std::string name = remote_name(socket.state);
  if (!socket.is_datagram() || !is_named(name)) return make_unix_ended(socket);
  socket.own = make_socket(socket.state);
  if (connect(socket.own.get(), address_of(name), static_cast<socklen_t>(name.size())) != 0) return make_unix_ended(socket);
  set_early_options(socket.own.get(), socket);
  bind_unix(socket.own.get(), local_name(socket.state), socket.state);
}

// Each message is sent from a socket with the name that its sender had.
void Sockets::fill_datagrams(Socket& socket, const std::vector<UnreadMessage>& messages) {
  for (const UnreadMessage& message : messages) {
    const Socket* sender = is_named(message.name) ? find_by_name(message.name, false) : nullptr;
    if (sender != nullptr && sender->is_datagram()) {
      send_message(sender->fd, message, reachable_name(socket.state), rights_of(message));
      continue;
    }
    SocketState gone{};
    gone.type = SOCK_DGRAM;
    const Fd temporary = make_socket(gone);
    bind_unix(temporary.get(), message.name, gone);
    send_message(temporary.get(), message, reachable_name(socket.state), rights_of(message));
    const std::string path = unix_path_of(message.name);
    if (gone_files_.contains(path)) remove_socket_file(path);
  }
}

void Sockets::connect_datagram(Socket& socket) {
  if (!socket.is_datagram() || socket.state.stage != SocketStage::kConnected) return;
  const Socket* peer = socket.state.peer == 0 ? nullptr : find(socket.state.peer);
  const bool leads_outside = (socket.state.flags & SocketState::kLeadsOutside) != 0;
  if (leads_outside || (peer != nullptr && peer != &socket && peer->state.peer == socket.inode())) return;
  const std::string name = peer != nullptr ? reachable_name(peer->state) : remote_name(socket.state);
  if (connect(socket.fd, address_of(name), static_cast<socklen_t>(name.size())) != 0)
    throw Error::from_errno("connect to", shown(name), errno, ExitCode::kRunner);
}

}  // namespace ckpt
