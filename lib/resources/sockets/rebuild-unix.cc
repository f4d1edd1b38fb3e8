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

void rename_socket_file(const std::string& path, const std::string& to, const SocketState& state) {
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

// For the moment, if there is one to go to.
class InFolder {
 public:
  explicit InFolder(const std::string& folder) {
    if (folder.empty()) return;
    before_ = Fd(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (chdir(folder.c_str()) != 0) throw Error::from_errno("enter", folder, errno, ExitCode::kRunner);
  }
  ~InFolder() {
    const int error = errno;
    if (before_.is_open() && fchdir(before_.get()) != 0) _exit(125);  // nothing else would be found any more
    errno = error;
  }
  InFolder(const InFolder&) = delete;
  InFolder& operator=(const InFolder&) = delete;

 private:
  Fd before_;
};

std::string full_path(const std::string& name, const std::string& folder) {
  const std::string path = unix_path_of(name);
  return path.empty() || folder.empty() ? path : folder + "/" + path;
}

// The one who listens is the one whom those are told of who connect.
void listen_as(pid_t maker, int fd, std::uint32_t backlog) {
  int unused[2];
  const int error = call_as(maker, unused, [&](auto&) { return listen(fd, static_cast<int>(backlog)) != 0 ? errno : 0; });
  if (error != 0) throw Error::from_errno("listen on", "a unix socket", error, ExitCode::kRunner);
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

// connect(2) tells a socket of another type from one that is gone: unix(7), EPROTOTYPE.
bool is_socket_file_used(const std::string& path, std::uint32_t type) {
  const Fd probe(socket(AF_UNIX, (type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) return false;
  path.copy(name.sun_path, path.size());
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 && errno == EPROTOTYPE;
}

bool is_unix_name_taken(const std::string& name, const std::string& folder, std::uint32_t type) {
  const std::string path = unix_path_of(name);
  if (!path.empty() && path[0] != '/') return is_socket_file_used(full_path(name, folder), type);
  std::ifstream file("/proc/net/unix");
  const std::string wanted = shown(name);
  for (std::string line; std::getline(file, line);) {
    if (line.size() > wanted.size() && line.ends_with(" " + wanted)) return true;
  }
  return false;
}

Sockets::UnixName Sockets::name_in(const std::string& name, const Description& description) const {
  const std::string path = unix_path_of(name);
  return {name, path.empty() || path[0] == '/' ? "" : plan_.owner_of(description).cwd};
}

Sockets::UnixName Sockets::own_name(const Socket& socket) const { return name_in(local_name(socket.state), *socket.description); }

// By which it is connected to.
Sockets::UnixName Sockets::reachable_name(const Socket& socket) const {
  const bool is_renamed = (socket.state.flags & SocketState::kIsRenamed) != 0;
  return is_renamed ? name_in(remote_name(socket.state), *socket.description) : own_name(socket);
}

bool Sockets::connect_to(int fd, const UnixName& name) {
  const InFolder in(name.folder);
  return connect(fd, address_of(name.name), static_cast<socklen_t>(name.name.size())) == 0;
}

void Sockets::connect_as(pid_t maker, int fd, const UnixName& name) {
  int unused[2];
  const int error = call_as(maker, unused, [&](auto&) { return connect_to(fd, name) ? 0 : errno; });
  if (error != 0) throw Error::from_errno("connect to", shown(name.name), error, ExitCode::kRunner);
}

// Gives the socket its name. The file of a path is made again with its mode; where it was gone, it is there for the moment only.
void Sockets::bind_unix(int fd, const UnixName& name, const SocketState& state) {
  if (!is_named(name.name)) return;
  const std::string path = full_path(name.name, name.folder);
  const bool keeps_file = (state.flags & SocketState::kHasFile) != 0;
  const bool has_successor = std::ranges::any_of(sockets_, [&](const Socket& other) {
    return other.is_unix() && !other.own.is_open() && (other.state.flags & SocketState::kHasFile) != 0 && own_name(other) == name;
  });
  if (!path.empty() && (keeps_file || has_successor || gone_files_.contains(path))) remove_socket_file(path);
  if (!path.empty() && !keeps_file) {
    for (const std::string& folder : missing_folders(path)) {
      if (mkdir(folder.c_str(), 0700) == 0) gone_folders_.push_back(folder);
    }
  }
  {
    const InFolder in(name.folder);
    if (bind(fd, address_of(name.name), static_cast<socklen_t>(name.name.size())) != 0)
      throw Error::from_errno("bind a unix socket to", shown(name.name), errno, ExitCode::kRunner);
  }
  if (path.empty()) return;
  if ((state.flags & SocketState::kIsRenamed) != 0)
    return rename_socket_file(path, full_path(remote_name(state), name.folder), state);
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
Socket* Sockets::find_by_name(const UnixName& name, bool is_listening) {
  Socket* found = nullptr;
  for (Socket& socket : sockets_) {
    if (!socket.is_unix() || own_name(socket) != name) continue;
    if ((socket.state.stage == SocketStage::kListening) != is_listening) continue;
    found = &socket;
    if ((socket.state.flags & SocketState::kHasFile) != 0) break;
  }
  return found;
}

// Another listening socket has its name now: nobody can connect to it when that is bound.
bool Sockets::is_shadowed(const Socket& socket) {
  const bool is_renamed = (socket.state.flags & SocketState::kIsRenamed) != 0;
  return socket.state.stage == SocketStage::kListening && !is_renamed && find_by_name(own_name(socket), true) != &socket;
}

void Sockets::make_unix_idle(Socket& socket) {
  socket.own = make_socket(socket.state);
  set_early_options(socket.own.get(), socket);
  bind_unix(socket.own.get(), own_name(socket), socket.state);
  if (socket.state.stage == SocketStage::kListening) listen_as(socket.peer_process(), socket.own.get(), socket.state.backlog);
}

// A copy of the listening socket with this name, or one for the moment.
Fd Sockets::find_or_make_listener(const UnixEnd& to) {
  const Socket* known = find_by_name(to.name, true);
  if (known != nullptr && known->state.type == to.state.type) return Fd(fcntl(known->own.get(), F_DUPFD_CLOEXEC, 0));
  Fd listener = make_socket(to.state);
  const std::string path = full_path(to.name.name, to.name.folder);
  if (gone_files_.contains(path)) remove_socket_file(path);  // of an earlier one
  bind_unix(listener.get(), to.name, to.state);
  listen_as(to.maker, listener.get(), 1);
  return listener;
}

// Both ends of a connection, the one of `from` first. Where the accepting end has a name, it comes from its listening socket.
std::pair<Fd, Fd> Sockets::connect_unix(const UnixEnd& from, const UnixEnd& to) {
  const bool is_datagram = to.state.type == SOCK_DGRAM;
  // An accepted connection of a server that is not part of the job, and lives: its name is left alone.
  const bool is_foreign = is_named(to.name.name) && find_by_name(to.name, true) == nullptr &&
                          is_unix_name_taken(to.name.name, to.name.folder, to.state.type);
  if (is_foreign) return connect_unix(from, {nameless(to.state), {}, to.maker});
  if (is_datagram || !is_named(to.name.name)) {
    if (!is_datagram && is_named(from.name.name)) {
      auto [first, second] = connect_unix(to, from);
      return {std::move(second), std::move(first)};
    }
    auto made = make_pair_as(from.maker, from.state);
    bind_unix(made.first.get(), from.name, from.state);
    bind_unix(made.second.get(), to.name, to.state);
    return made;
  }
  Fd client = make_socket(from.state);
  bind_unix(client.get(), from.name, from.state);
  const Fd listener = find_or_make_listener(to);
  const Socket* known = find_by_name(to.name, true);
  connect_as(from.maker, client.get(), known != nullptr ? reachable_name(*known) : to.name);
  Fd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!server.is_open()) throw Error::from_errno("accept on", shown(to.name.name), errno, ExitCode::kRunner);
  return {std::move(client), std::move(server)};
}

void Sockets::make_unix_pair(Socket& socket) {
  Socket* peer = find(socket.state.peer);
  if (peer == nullptr) throw Error::plain("the other end of a unix socket is not in the image", ExitCode::kRunner);
  // Datagrams: connected when all are there.
  if (peer == &socket || peer->state.peer != socket.inode()) return make_unix_idle(socket);
  auto [own, other] =
      connect_unix({socket.state, own_name(socket), peer->peer_process()}, {peer->state, own_name(*peer), socket.peer_process()});
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
  auto [own, far] = connect_unix({socket.state, own_name(socket), socket.peer_process()}, {gone, {}, socket.peer_process()});
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
    bind_unix(socket->own.get(), own_name(*socket), socket->state);
    // Nobody tells who has connected: as a rule the one who has it open.
    connect_as(plan_.owner_of(*socket->description).process.pid, socket->own.get(), reachable_name(*listener));
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
  if (!connect_to(socket.own.get(), name_in(name, *socket.description))) return make_unix_ended(socket);
  set_early_options(socket.own.get(), socket);
  bind_unix(socket.own.get(), own_name(socket), socket.state);
}

// Each message is sent from a socket with the name that its sender had.
void Sockets::fill_datagrams(Socket& socket, const std::vector<UnreadMessage>& messages) {
  const UnixName to = reachable_name(socket);
  for (const UnreadMessage& message : messages) {
    const UnixName from = name_in(message.name, *socket.description);
    const Socket* sender = is_named(from.name) ? find_by_name(from, false) : nullptr;
    if (sender != nullptr && sender->is_datagram()) {
      const InFolder in(to.folder);
      send_message(sender->fd, message, to.name, rights_of(message));
      continue;
    }
    SocketState gone{};
    gone.type = SOCK_DGRAM;
    const Fd temporary = make_socket(gone);
    bind_unix(temporary.get(), from, gone);
    const InFolder in(to.folder);
    send_message(temporary.get(), message, to.name, rights_of(message));
    const std::string path = full_path(from.name, from.folder);
    if (gone_files_.contains(path)) remove_socket_file(path);
  }
}

void Sockets::connect_datagram(Socket& socket) {
  if (!socket.is_datagram() || socket.state.stage != SocketStage::kConnected) return;
  const Socket* peer = socket.state.peer == 0 ? nullptr : find(socket.state.peer);
  const bool leads_outside = (socket.state.flags & SocketState::kLeadsOutside) != 0;
  if (leads_outside || (peer != nullptr && peer != &socket && peer->state.peer == socket.inode())) return;
  const UnixName name = peer != nullptr ? reachable_name(*peer) : name_in(remote_name(socket.state), *socket.description);
  if (!connect_to(socket.fd, name)) throw Error::from_errno("connect to", shown(name.name), errno, ExitCode::kRunner);
}

}  // namespace ckpt
