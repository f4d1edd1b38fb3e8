// What is on its way between two sockets of the job is brought to the receiver, by the process that has that one: the sender
// stands, so that what it has published of itself stays true.
#include "lib/resources/sockets/collect-tcp.h"

#include <asm/ioctls.h>
#include <linux/sockios.h>

namespace ckpt {

namespace {

constexpr int kTcp = 6, kTcpInfo = 11;
constexpr int kType = 3, kReceiveBuffer = 8, kReceiveLowat = 18, kForceReceiveBuffer = 33, kDomain = 39, kNamespaceCookie = 71,
              kBufferLock = 72;  // SO_*

// Bytes that the program has sent, without the connection's own beginning and end, which count as a byte each.
std::uint64_t sent_bytes(const tcp_info& info) {
  const bool has_finished = info.tcpi_state == kFinWait1 || info.tcpi_state == kLastAck || info.tcpi_state == kClosing;
  const std::uint64_t all = info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
  return all - (has_finished && info.tcpi_notsent_bytes != 0 ? 1 : 0);
}

std::uint64_t received_bytes(const tcp_info& info) {
  const bool has_end = info.tcpi_state == kCloseWait || info.tcpi_state == kLastAck || info.tcpi_state == kClosing;
  return info.tcpi_bytes_received - (has_end ? 1 : 0);
}

int bytes_on_way(const format::InetFacts& sender, int from) {
  return from < 0 ? static_cast<int>(sender.unsent) : unsent_bytes(from);
}

bool has_arrived(const format::InetFacts& sender, int from, int to) {
  if (bytes_on_way(sender, from) == 0) return true;
  tcp_info receiver;
  return read_tcp(to, &receiver) && received_bytes(receiver) == sender.sent;
}

// The receiver's window opens as far as the kernel lets it, for as long as this lives. But what the sender has been told stays so:
// it may go on to send as much.
class WideWindow {
 public:
  explicit WideWindow(int fd)
      : fd_(fd),
        lowat_(socket_option(fd, kSolSocket, kReceiveLowat, 1)),
        buffer_(socket_option(fd, kSolSocket, kReceiveBuffer, 0)),
        lock_(socket_option(fd, kSolSocket, kBufferLock, 0)) {
    constexpr int kReceiveLock = 2;
    set(kBufferLock, lock_ & ~kReceiveLock);
  }
  // False: it can't be so wide (tcp_rmem of tcp(7)). Root may go beyond that.
  bool open(int bytes) {
    set(kReceiveLowat, bytes);
    return socket_option(fd_, kSolSocket, kReceiveLowat, 0) >= bytes || set(kForceReceiveBuffer, bytes);
  }
  ~WideWindow() {
    set(kReceiveLowat, lowat_);
    if (socket_option(fd_, kSolSocket, kReceiveBuffer, 0) != buffer_) set(kReceiveBuffer, buffer_ / 2);
    set(kBufferLock, lock_);
  }
  WideWindow(const WideWindow&) = delete;

 private:
  bool set(int name, int value) { return !sys::call(__NR_setsockopt, fd_, kSolSocket, name, &value, sizeof(value)).failed(); }
  int fd_, lowat_, buffer_, lock_;
};

}  // namespace

bool read_tcp(int fd, tcp_info* info) {
  *info = {};
  unsigned size = sizeof(*info);
  return !sys::call(__NR_getsockopt, fd, kTcp, kTcpInfo, info, &size).failed();
}

int unsent_bytes(int fd) {
  int count = 0;
  return sys::call(__NR_ioctl, fd, SIOCOUTQ, &count).failed() ? 0 : count;
}

std::uint64_t network_of(int fd) {
  std::uint64_t cookie = 0;
  unsigned size = sizeof(cookie);
  sys::call(__NR_getsockopt, fd, kSolSocket, kNamespaceCookie, &cookie, &size).ignore();
  return cookie;
}

bool is_any(const Endpoint& endpoint) {
  for (unsigned i = 0; i < sizeof(endpoint.address); ++i) {
    if (endpoint.address[i] != 0 && (i < 10 || i > 11)) return false;
  }
  return true;
}

Endpoint endpoint_of(const std::uint8_t* address) {
  Endpoint result{};
  memcpy(result.port, address + 2, sizeof(result.port));
  if (address[0] == kAfInet6) {
    memcpy(result.address, address + 8, sizeof(result.address));
  } else {
    memset(result.address + 10, 0xff, 2);
    memcpy(result.address + 12, address + 4, 4);
  }
  return result;
}

void describe_inet(int fd, format::InetFacts* facts) {
  *facts = {};
  const int family = socket_option(fd, kSolSocket, kDomain, 0);
  if (family != kAfInet && family != kAfInet6) return;
  std::uint8_t name[128]{};
  unsigned size = sizeof(name);
  facts->type = static_cast<std::uint32_t>(socket_option(fd, kSolSocket, kType, 0));
  facts->network = network_of(fd);
  if (!sys::call(__NR_getsockname, fd, name, &size).failed()) facts->local = endpoint_of(name);
  size = sizeof(name);
  if (!sys::call(__NR_getpeername, fd, name, &size).failed()) facts->remote = endpoint_of(name);
  tcp_info info;
  if (facts->type != kStream || !read_tcp(fd, &info)) return;
  facts->state = info.tcpi_state;
  facts->sent = sent_bytes(info);
  facts->unsent = static_cast<std::uint32_t>(unsent_bytes(fd));
  if (info.tcpi_state == kListen) facts->waiting = info.tcpi_unacked;
}

bool bring_to_receiver(format::InetFacts sender, int from, int to) {
  if (has_arrived(sender, from, to)) return true;
  // What would not fit is left where it is: the program has to read first, and what is brought over now would only add to that.
  int size = unread_bytes(to) + bytes_on_way(sender, from);
  WideWindow window(to);
  if (!window.open(size)) return false;
  for (int tries = 0; tries < 500; ++tries) {
    if (tries % 50 == 49 && size < format::kWidestWindow) window.open(size *= 2);  // small packets take more room than they hold
    char byte;  // looking at a byte lets the receiver tell its window
    sys::call(__NR_recvfrom, to, &byte, 1, 0x42 /* MSG_PEEK | MSG_DONTWAIT */, nullptr, nullptr).ignore();
    if (has_arrived(sender, from, to)) return true;
    const __kernel_timespec pause{0, 1'000'000};
    if (tries > 20) sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  }
  return false;
}

}  // namespace ckpt
