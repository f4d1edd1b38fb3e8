// sockets: options, contents and order of the rebuild side; what is particular to a family is in rebuild-<family>.cc.
#include "lib/resources/sockets/rebuild.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>

#include <linux/filter.h>

#include <cstring>

#include "restart/numbers.h"

namespace ckpt {

namespace {

using format::SocketOption;
using format::SocketState;

constexpr int kBufferLock = 72;  // SO_BUF_LOCK, Linux 5.14
constexpr int kPeekOffset = 42;  // SO_PEEK_OFF

bool is_buffer_size(const SocketOption& option) {
  return option.level == SOL_SOCKET && (option.name == SO_SNDBUF || option.name == SO_RCVBUF);
}

// What the socket may receive, and that nobody may change that.
bool is_filter(const SocketOption& option) {
  return option.level == SOL_SOCKET && (option.name == SO_ATTACH_FILTER || option.name == SO_LOCK_FILTER);
}

// Options that would be in the way while the socket is filled.
bool is_late(const SocketOption& option) {
  if (is_buffer_size(option) || is_filter(option)) return true;
  if (option.level == SOL_SOCKET) return option.name == kBufferLock || option.name == kPeekOffset || option.name == SO_RCVLOWAT;
  return (option.level == IPPROTO_TCP && option.name == TCP_CORK) || (option.level == IPPROTO_UDP && option.name == UDP_CORK);
}

// What is joined, once.
bool is_membership(const SocketOption& option) {
  return is_netlink_groups(option) || (option.level == IPPROTO_IP && option.name == IP_ADD_MEMBERSHIP) ||
         (option.level == IPPROTO_IPV6 && option.name == IPV6_ADD_MEMBERSHIP);
}

// With TCP, these only tell which end has accepted the connection: nobody can set them.
bool is_of_datagrams(const SocketOption& option) {
  return (option.level == IPPROTO_IP && (option.name == IP_MULTICAST_TTL || option.name == IP_MULTICAST_IF)) ||
         (option.level == IPPROTO_IPV6 && (option.name == IPV6_MULTICAST_HOPS || option.name == IPV6_MULTICAST_IF));
}

bool is_peer(const SocketOption& option) { return option.level == SOL_SOCKET && option.name == SO_PEERCRED; }

bool is_set(int fd, const SocketOption& option) {
  SocketOption now{option.level, option.name, sizeof(option.value), {}};
  socklen_t size = sizeof(now.value);
  if (getsockopt(fd, option.level, option.name, now.value, &size) != 0) {
    const std::uint8_t none[sizeof(option.value)]{};
    return std::memcmp(option.value, none, sizeof(none)) == 0;  // this kernel lacks it, and nobody asked for it
  }
  return size == option.size && std::memcmp(now.value, option.value, size) == 0;
}

void set_option(int fd, const SocketOption& option) {
  if (is_set(fd, option)) return;
  if (is_buffer_size(option)) {
    int size = 0;
    std::memcpy(&size, option.value, sizeof(size));
    size /= 2;  // the kernel doubles what it is given; a limit that is lower here is respected
    setsockopt(fd, SOL_SOCKET, option.name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &size, sizeof(size));
    if (!is_set(fd, option)) setsockopt(fd, SOL_SOCKET, option.name, &size, sizeof(size));
    return;
  }
  // A name in IPv6 has decided it already: a connection is none the worse for it.
  const bool is_decided = option.level == IPPROTO_IPV6 && option.name == IPV6_V6ONLY;
  if (setsockopt(fd, option.level, option.name, option.value, option.size) != 0 && !is_decided) {
    throw Error::from_errno("set",
                            "option " + std::to_string(option.name) + " of level " + std::to_string(option.level) + " of a socket",
                            errno, ExitCode::kRunner);
  }
}

// Its pieces, put together: what is in the socket already has passed it.
void set_filter(int fd, const Socket& socket) {
  std::vector<sock_filter> program;
  const SocketOption* lock = nullptr;
  for (const SocketOption& option : socket.options) {
    if (!is_filter(option)) continue;
    if (option.name == SO_LOCK_FILTER) {
      lock = &option;
      continue;
    }
    const std::size_t count = std::min<std::size_t>(option.size / sizeof(sock_filter), format::kFilterPiece);
    program.resize(program.size() + count);
    std::memcpy(program.data() + program.size() - count, option.value, count * sizeof(sock_filter));
  }
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (!program.empty() && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) != 0)
    throw Error::from_errno("set", "the filter of a socket", errno, ExitCode::kRunner);
  if (lock != nullptr) set_option(fd, *lock);
}

std::vector<SocketOption> options_of(const Description& description) {
  std::vector<SocketOption> options((description.state.size() - sizeof(SocketState)) / sizeof(SocketOption));
  std::memcpy(options.data(), description.state.data() + sizeof(SocketState), options.size() * sizeof(SocketOption));
  return options;
}

// Takes a run of QueuedMessage apart; the image may be damaged by design.
class QueueReader {
 public:
  explicit QueueReader(const std::string& bytes) : bytes_(bytes) {}

  bool is_at_end() const { return at_ == bytes_.size(); }
  UnreadMessage next() {
    format::QueuedMessage head{};
    std::memcpy(&head, take(sizeof(head)).data(), sizeof(head));
    UnreadMessage message;
    message.name = take(head.name_size);
    message.sender = head.sender;
    message.rights.resize(head.right_count);
    const std::string rights = take(std::uint64_t{head.right_count} * 4);
    std::memcpy(message.rights.data(), rights.data(), rights.size());
    message.data = take(head.size);
    return message;
  }

 private:
  std::string take(std::uint64_t size) {
    const std::uint64_t padded = format::align_up(size, 8);
    if (padded > bytes_.size() - at_) throw Error::plain("what is in a socket is damaged in the image", ExitCode::kRunner);
    std::string result = bytes_.substr(at_, size);
    at_ += padded;
    return result;
  }

  const std::string& bytes_;
  std::size_t at_ = 0;
};

}  // namespace

void set_early_options(int fd, const Socket& socket) {
  for (const SocketOption& option : socket.options) {
    const bool can_be_set = socket.state.type != SOCK_STREAM || !is_of_datagrams(option);
    if (can_be_set && !is_late(option) && !is_netlink_groups(option) && !is_peer(option)) set_option(fd, option);
  }
}

void set_last_options(int fd, const Socket& socket) {
  for (const SocketOption& option : socket.options) {  // SO_BUF_LOCK comes behind the sizes
    const bool can_be_set = socket.state.type != SOCK_STREAM || !is_of_datagrams(option);
    if (can_be_set && !is_membership(option) && !is_peer(option) && !is_filter(option)) set_option(fd, option);
  }
  set_filter(fd, socket);
}

void enlarge_buffer(int fd) {
  constexpr int kMost = 1 << 30;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kMost, sizeof(kMost)) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kMost, sizeof(kMost));
  }
}

void send_message(int fd, const UnreadMessage& message, const std::string& to, const std::vector<int>& rights) {
  std::vector<char> control(rights.empty() ? 0 : CMSG_SPACE(rights.size() * sizeof(int)));
  iovec vector{};
  msghdr header{};
  header.msg_name = to.empty() ? nullptr : const_cast<char*>(to.data());
  header.msg_namelen = static_cast<socklen_t>(to.size());
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  if (cmsghdr* first = CMSG_FIRSTHDR(&header); first != nullptr) {
    *first = {CMSG_LEN(rights.size() * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    std::memcpy(CMSG_DATA(first), rights.data(), rights.size() * sizeof(int));
  }
  std::size_t done = 0;
  do {
    vector = {const_cast<char*>(message.data.data()) + done, message.data.size() - done};
    int sent[2] = {0, 0};
    const int error = call_as(message.sender, sent, [&](int(&count)[2]) {
      count[0] = static_cast<int>(sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL));
      return count[0] < 0 ? errno : 0;
    });
    if (error != 0) throw Error::from_errno("fill", "a socket", error, ExitCode::kRunner);
    done += static_cast<std::size_t>(sent[0]);
    header.msg_controllen = 0;
  } while (done < message.data.size());
}

std::vector<int> Sockets::rights_of(const UnreadMessage& message) const {
  std::vector<int> rights;
  for (const std::uint32_t id : message.rights) {
    const auto found = opened_->find(id);
    if (found == opened_->end()) throw Error::plain("a descriptor in flight is not in the image", ExitCode::kRunner);
    rights.push_back(found->second);
  }
  return rights;
}

pid_t Socket::peer_process() const {
  for (const SocketOption& option : options) {
    if (!is_peer(option)) continue;
    ucred credentials{};
    std::memcpy(&credentials, option.value, sizeof(credentials));
    return credentials.pid;
  }
  return 0;
}

Socket describe_socket(const Description& description) {
  Socket socket;
  socket.description = &description;
  socket.state = state_of<SocketState>(description);
  socket.options = options_of(description);
  return socket;
}

Sockets::Sockets(const RestartPlan& plan) : plan_(plan) {
  for (const DescriptionPlan& item : plan.descriptions) {
    if (!holds(item)) continue;
    sockets_.push_back(describe_socket(*item.description));
  }
  make_unix();
  make_inet();
  make_netlink();
}

bool Sockets::holds(const DescriptionPlan& item) {
  const auto kind = item.description->record.kind;
  return item.source == DescriptionPlan::Source::kMade &&
         (kind == format::DescriptionKind::kUnixSocket || kind == format::DescriptionKind::kInetSocket ||
          kind == format::DescriptionKind::kNetlinkSocket);
}

int Sockets::take(const DescriptionPlan& item) {
  Socket* socket = find(item.description->record.inode);
  if (socket == nullptr || !socket->own.is_open()) throw Error::plain("a socket can't be made again", ExitCode::kRunner);
  return socket->own.release();
}

Socket* Sockets::find(std::uint64_t inode) {
  for (Socket& socket : sockets_) {
    if (socket.inode() == inode) return &socket;
  }
  return nullptr;
}

std::vector<UnreadMessage> Sockets::read_queue(const Socket& socket) const {
  std::vector<UnreadMessage> messages;
  if (socket.description->record.content == 0) return messages;
  std::string bytes;
  for (const auto& extent : plan_.content_of(*socket.description).extents) {
    const auto frame = plan_.image->read_frame(extent.frame);
    bytes.append(reinterpret_cast<const char*>(frame.data()) + extent.frame_offset, extent.size);
  }
  for (QueueReader reader(bytes); !reader.is_at_end();) messages.push_back(reader.next());
  return messages;
}

void Sockets::fill(Socket& socket) {
  const auto messages = read_queue(socket);
  const Socket* peer = socket.state.peer == 0 ? nullptr : find(socket.state.peer);
  const bool is_mutual = socket.far.is_open() || (peer != nullptr && peer != &socket && peer->state.peer == socket.inode());
  if (socket.is_unix() && socket.is_datagram() && !is_mutual) return fill_datagrams(socket, messages);
  if (messages.empty()) return;
  if (!socket.is_unix() && socket.is_datagram()) return fill_udp(socket, messages);
  if (!is_mutual) throw Error::plain("what is in a socket has no sender in the image", ExitCode::kRunner);
  const int from = socket.far.is_open() ? socket.far.get() : peer->fd;
  if (!socket.is_unix()) return fill_tcp(from, socket.fd, messages);
  enlarge_buffer(from);
  for (const UnreadMessage& message : messages) send_message(from, message, "", rights_of(message));
}

void Sockets::complete(const std::map<std::uint32_t, int>& opened) {
  opened_ = &opened;
  for (Socket& socket : sockets_) socket.fd = opened.at(socket.description->record.id);
  for (Socket& socket : sockets_) fill(socket);
  for (Socket& socket : sockets_) {
    socket.is_unix() ? connect_datagram(socket) : connect_udp(socket);
    if (socket.is_inet() && socket.far.is_open()) end_tcp(socket);
    constexpr std::uint32_t kReset = SocketState::kHasError | SocketState::kLeadsOutside;
    const bool is_reset = (socket.state.flags & kReset) != 0 && socket.far.is_open() && !socket.is_datagram();
    if (is_reset) send_message(socket.fd, {"", 0, {}, "x"}, "");  // unread when the far end closes: a reset
    socket.far.reset();
  }
  remove_gone_files();
  for (const Socket& socket : sockets_) {
    const std::uint32_t shut = socket.state.shutdown;
    if ((shut & SocketState::kShutSend) != 0) shutdown(socket.fd, SHUT_WR);
    if ((shut & SocketState::kShutReceive) != 0) shutdown(socket.fd, SHUT_RD);
    set_last_options(socket.fd, socket);
    const int flags = static_cast<int>(socket.description->record.status_flags) & (O_NONBLOCK | O_APPEND | O_NOATIME);
    if (fcntl(socket.fd, F_SETFL, flags) != 0) throw Error::from_errno("set the flags of", "a socket", errno, ExitCode::kRunner);
  }
}

}  // namespace ckpt
