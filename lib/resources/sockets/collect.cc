// sockets: what a socket is and which options are set; the rest is asked by family, and again when all descriptors are known.
#include "lib/resources/sockets/collect.h"

#include <asm/poll.h>

namespace ckpt {

namespace {

using format::DescriptionKind;
using format::DescriptionRecord;
using format::SocketOption;
using format::SocketState;

constexpr int kTcp = 6, kUdp = 17, kUdpLite = 136, kMptcp = 262, kRawLevel = 255;
constexpr int kSoType = 3, kSoProtocol = 38, kSoDomain = 39, kSoFilter = 26, kSoLockFilter = 44;

// Options that are kept, by level and what they are for.
struct Options {
  int level;
  int family;    // 0: any
  int protocol;  // 0: any
  std::span<const std::uint8_t> names;
};
// SO_DEBUG REUSEADDR DONTROUTE BROADCAST SNDBUF RCVBUF KEEPALIVE OOBINLINE NO_CHECK PRIORITY LINGER REUSEPORT PASSCRED RCVLOWAT
// RCVTIMEO SNDTIMEO BINDTODEVICE TIMESTAMP PASSSEC TIMESTAMPNS MARK TIMESTAMPING RXQ_OVFL PEEK_OFF BUSY_POLL MAX_PACING_RATE
// ZEROCOPY BUF_LOCK PASSPIDFD PASSRIGHTS, WIFI_STATUS NOFCS SELECT_ERR_QUEUE TXTIME TIMESTAMP_NEW TIMESTAMPNS_NEW TIMESTAMPING_NEW
// PREFER_BUSY_POLL TXREHASH RCVMARK RCVPRIORITY
constexpr std::uint8_t kSocketNames[] = {1,  2,  5,  6,  7,  8,  9,  10, 11, 12, 13, 15, 16, 18, 20, 21, 25, 29, 34, 35, 36,
                                         37, 40, 42, 46, 47, 60, 72, 76, 83, 41, 43, 45, 61, 63, 64, 65, 69, 74, 75, 82};
// IP_TOS TTL HDRINCL RECVOPTS RETOPTS PKTINFO MTU_DISCOVER RECVERR RECVTTL RECVTOS FREEBIND TRANSPARENT RECVORIGDSTADDR MINTTL
// BIND_ADDRESS_NO_PORT RECVFRAGSIZE MULTICAST_IF MULTICAST_TTL MULTICAST_LOOP MULTICAST_ALL UNICAST_IF LOCAL_PORT_RANGE PASSSEC
// CHECKSUM RECVERR_RFC4884
constexpr std::uint8_t kIpNames[] = {1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 15, 19, 20, 21, 24, 25, 32, 33, 34, 49, 50, 51, 18, 23, 26};
// IPV6_UNICAST_HOPS MULTICAST_IF MULTICAST_HOPS MULTICAST_LOOP MTU_DISCOVER RECVERR V6ONLY MULTICAST_ALL RECVPKTINFO RECVHOPLIMIT
// DONTFRAG RECVTCLASS TCLASS AUTOFLOWLABEL RECVORIGDSTADDR TRANSPARENT UNICAST_IF FREEBIND, 2292PKTINFO 2292HOPOPTS 2292DSTOPTS
// 2292RTHDR 2292HOPLIMIT FLOWINFO RECVERR_RFC4884 FLOWINFO_SEND RECVHOPOPTS RECVRTHDR RECVDSTOPTS RECVPATHMTU ADDR_PREFERENCES
// MINHOPCOUNT RECVFRAGSIZE
constexpr std::uint8_t kIpv6Names[] = {16, 17, 18, 19, 23, 25, 26, 29, 49, 51, 62, 66, 67, 70, 74, 75, 76,
                                       78, 2,  3,  4,  5,  8,  11, 31, 33, 53, 56, 58, 60, 72, 73, 77};
// TCP_NODELAY CORK KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 DEFER_ACCEPT CONGESTION USER_TIMEOUT FASTOPEN NOTSENT_LOWAT SAVE_SYN
// FASTOPEN_CONNECT INQ THIN_LINEAR_TIMEOUTS TX_DELAY RTO_MAX_MS RTO_MIN_US DELACK_MAX_US
constexpr std::uint8_t kTcpNames[] = {1, 3, 4, 5, 6, 7, 8, 9, 13, 18, 23, 25, 27, 30, 36, 16, 37, 44, 45, 46};
// TCP_MAXSEG WINDOW_CLAMP. A connection tells what it has agreed upon, which nobody can set.
constexpr std::uint8_t kUnconnectedTcpNames[] = {2, 10};
// UDP_CORK ENCAP NO_CHECK6_TX NO_CHECK6_RX SEGMENT GRO
constexpr std::uint8_t kUdpNames[] = {1, 100, 101, 102, 103, 104};
// UDPLITE_SEND_CSCOV RECV_CSCOV
constexpr std::uint8_t kUdpLiteNames[] = {10, 11};
// ICMP_FILTER
constexpr std::uint8_t kRawIcmpNames[] = {1};
// IPV6_CHECKSUM HDRINCL
constexpr std::uint8_t kRawIpv6Names[] = {7, 36};
// NETLINK_PKTINFO BROADCAST_ERROR NO_ENOBUFS LISTEN_ALL_NSID CAP_ACK EXT_ACK GET_STRICT_CHK
constexpr std::uint8_t kNetlinkNames[] = {3, 4, 5, 8, 10, 11, 12};

// PEERCRED: which process made the other end. Not to be set, but to be had by the right process making it again.
constexpr std::uint8_t kUnixNames[] = {17};

constexpr Options kOptions[] = {
    {kSolSocket, kAfUnix, 0, kUnixNames},
    {kSolSocket, 0, 0, kSocketNames},
    {0 /* IP */, kAfInet, 0, kIpNames},
    {0 /* IP: for what comes over IPv4 */, kAfInet6, 0, kIpNames},
    {41 /* IPv6 */, kAfInet6, 0, kIpv6Names},
    {kTcp, kAfInet, kTcp, kTcpNames},
    {kTcp, kAfInet6, kTcp, kTcpNames},
    {kTcp, kAfInet, kMptcp, kTcpNames},
    {kTcp, kAfInet6, kMptcp, kTcpNames},
    {kUdpLite, kAfInet, kUdpLite, kUdpLiteNames},
    {kUdpLite, kAfInet6, kUdpLite, kUdpLiteNames},
    {kRawLevel, kAfInet, 1 /* ICMP */, kRawIcmpNames},
    {kRawLevel, kAfInet6, 0, kRawIpv6Names},
    {kUdp, kAfInet, kUdp, kUdpNames},
    {kUdp, kAfInet6, kUdp, kUdpNames},
    {270 /* netlink */, kAfNetlink, 0, kNetlinkNames},
};

void add_options_of(int fd, int level, std::span<const std::uint8_t> names, Buffer* state) {
  for (const std::uint8_t name : names) {
    SocketOption option{level, name, sizeof(option.value), {}};
    if (sys::call(__NR_getsockopt, fd, option.level, option.name, option.value, &option.size).failed()) continue;
    if (option.size != 0 && option.size <= sizeof(option.value)) state->add(&option, sizeof(option));
  }
}

void add_options(int fd, const SocketState& facts, Buffer* state) {
  for (const Options& options : kOptions) {
    if (options.family != 0 && options.family != static_cast<int>(facts.family)) continue;
    if (options.protocol != 0 && options.protocol != static_cast<int>(facts.protocol)) continue;
    add_options_of(fd, options.level, options.names, state);
  }
  const bool is_connected = facts.stage != format::SocketStage::kIdle && facts.stage != format::SocketStage::kListening;
  if (facts.family != kAfUnix && facts.protocol == kTcp && !is_connected) add_options_of(fd, kTcp, kUnconnectedTcpNames, state);
}

// The filter that decides what the socket may receive, if it has one, as options of FilterPiece; then whether that is locked.
bool add_filter(Collector* collector, int fd, const SocketState& facts, Buffer* state) {
  constexpr int kAccess = 13;  // EACCES
  constexpr unsigned kMost = 4096, kInstructionSize = 8;
  unsigned count = 0;
  const auto answer = sys::call(__NR_getsockopt, fd, kSolSocket, kSoFilter, nullptr, &count);
  if (answer.failed() && answer.error() == kAccess)
    return refuse_socket(collector, fd, facts, "a socket with a filter of bpf(2) can't be saved; close it and try again");
  if (!answer.failed() && count != 0) {
    const unsigned room = count < kMost ? count : kMost;
    auto* program = static_cast<std::uint8_t*>(collector->arena->take(kMost * kInstructionSize));
    if (program == nullptr || sys::call(__NR_getsockopt, fd, kSolSocket, kSoFilter, program, &count).failed() || count != room)
      return refuse_socket(collector, fd, facts, "its filter can't be read: no memory");
    for (unsigned at = 0; at < count; at += format::kFilterPiece) {
      const unsigned left = count - at < format::kFilterPiece ? count - at : format::kFilterPiece;
      SocketOption piece{kSolSocket, kSoFilter, left * kInstructionSize, {}};
      memcpy(piece.value, program + at * kInstructionSize, piece.size);
      state->add(&piece, sizeof(piece));
    }
  }
  constexpr std::uint8_t kLock[] = {kSoLockFilter};
  if (socket_option(fd, kSolSocket, kSoLockFilter, 0) != 0) add_options_of(fd, kSolSocket, kLock, state);
  return true;
}

void read_names(int fd, SocketState* facts) {
  facts->local_size = sizeof(facts->local);
  facts->remote_size = sizeof(facts->remote);
  if (sys::call(__NR_getsockname, fd, facts->local, &facts->local_size).failed()) facts->local_size = 0;
  if (sys::call(__NR_getpeername, fd, facts->remote, &facts->remote_size).failed()) facts->remote_size = 0;
}

const char* name_of_family(int family) {
  switch (family) {
    case 17:
      return "a packet socket";
    case 31:
      return "a Bluetooth socket";
    case 38:
      return "a socket of the kernel's cryptography (AF_ALG)";
    case 40:
      return "a socket of virtual machines (AF_VSOCK)";
    case 44:
      return "an XDP socket";
    case kAfInet:
    case kAfInet6:
      return "a socket of this protocol";
    default:
      return "a socket of this family";
  }
}

bool is_known_inet(const SocketState& state) {
  return (state.type == kStream && state.protocol == kTcp) || (state.type == kDatagram && state.protocol == kUdp);
}

// The family's own part; false: refused.
bool collect_family(Collector* collector, const Descriptor& descriptor, DescriptionRecord* record, SocketState* state) {
  if (state->family == kAfUnix) {
    record->kind = DescriptionKind::kUnixSocket;
    return collect_unix_socket(collector, descriptor, state);
  }
  if ((state->family == kAfInet || state->family == kAfInet6) && is_known_inet(*state)) {
    record->kind = DescriptionKind::kInetSocket;
    return collect_inet_socket(collector, descriptor, state);
  }
  if (is_plain_socket(*state) && (descriptor.fd > 2 || state->remote_size == 0)) {
    record->kind = DescriptionKind::kPlainSocket;
    return collect_plain_socket(collector, descriptor, state);
  }
  if (state->family == kAfNetlink) {
    record->kind = DescriptionKind::kNetlinkSocket;
    return collect_netlink_socket(collector, descriptor, *state);
  }
  if (descriptor.fd <= 2) {  // leads outside, like a terminal
    record->kind = DescriptionKind::kSocket;
    return true;
  }
  refuse_descriptor(collector, descriptor)
      .add(name_of_family(static_cast<int>(state->family)))
      .add(" can't be saved; close it and try again");
  return false;
}

}  // namespace

unsigned poll_now(int fd, unsigned events) {
  PollEntry entry{fd, static_cast<short>(events), 0};
  const __kernel_timespec at_once{};
  sys::call(__NR_ppoll, &entry, 1, &at_once, nullptr, 8).ignore();
  return static_cast<unsigned short>(entry.returned);
}

int socket_option(int fd, int level, int name, int otherwise) {
  int value = 0;
  unsigned size = sizeof(value);
  return sys::call(__NR_getsockopt, fd, level, name, &value, &size).failed() ? otherwise : value;
}

SocketState* socket_state(const OpenDescription& end) { return reinterpret_cast<SocketState*>(state_of(end.record)); }

bool is_socket(const OpenDescription& end) {
  return end.record->kind == DescriptionKind::kUnixSocket || end.record->kind == DescriptionKind::kInetSocket;
}

bool refuse_socket(Collector* collector, int fd, const SocketState& state, const char* reason) {
  Message& message = refuse_descriptor(collector, fd).add(" (");
  message.add(state.family == kAfUnix      ? "unix"
              : state.family == kAfNetlink ? "netlink"
              : state.type == kStream      ? "TCP"
                                           : "UDP")
      .add(" socket");
  if (state.family == kAfUnix && state.local_size > 3) {
    const auto* path = reinterpret_cast<const char*>(state.local + 2);
    message.add_char(' ').add_quoted(path[0] == '\0' ? path + 1 : path);
  }
  message.add("): ").add(reason);
  return false;
}

bool refuse_ended_waiting(Collector* collector, const OpenDescription& listener) {
  return refuse_socket(
             collector, listener.fd, *socket_state(listener),
             "a connection that nobody has accepted yet, and whose other end is closed, can't be saved; try again later") ||
         collector->postpone();
}

bool collect_socket(Collector* collector, const Descriptor& descriptor, DescriptionRecord* record, Buffer* state) {
  SocketState facts{};
  const int fd = descriptor.fd;
  facts.family = static_cast<std::uint32_t>(socket_option(fd, kSolSocket, kSoDomain, 0));
  facts.type = static_cast<std::uint32_t>(socket_option(fd, kSolSocket, kSoType, 0));
  facts.protocol = static_cast<std::uint32_t>(socket_option(fd, kSolSocket, kSoProtocol, 0));
  read_names(fd, &facts);
  if (!collect_family(collector, descriptor, record, &facts)) return false;
  if (record->kind == DescriptionKind::kSocket) return true;
  if ((poll_now(fd, POLLPRI) & POLLPRI) != 0)
    return refuse_socket(collector, fd, facts, "urgent data that waits to be read can't be saved; try again later") ||
           collector->postpone();
  state->add(&facts, sizeof(facts));
  add_options(fd, facts, state);
  return collect_groups(collector, fd, facts, state) && collect_netlink_groups(collector, fd, facts, state) &&
         add_filter(collector, fd, facts, state);
}

}  // namespace ckpt
