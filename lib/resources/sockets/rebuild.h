// sockets: all of them are made together, for one needs another: first they come to stand as they were (name, listening,
// connected), then they get what was in them. Hosted; in the process that becomes the program.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/common/fd.h"
#include "restart/plan.h"

namespace ckpt {

// A socket that is being made.
struct Socket {
  const Description* description = nullptr;
  format::SocketState state{};
  std::vector<format::SocketOption> options;
  Fd own;       // until it is taken
  int fd = -1;  // then by its number
  Fd far;       // the other end, where that is closed as soon as all has gone through it

  std::uint64_t inode() const { return description->record.inode; }
  bool is_unix() const { return state.family == AF_UNIX; }
  bool is_inet() const { return state.family == AF_INET || state.family == AF_INET6; }
  bool is_datagram() const { return state.type == SOCK_DGRAM; }
  // The process that made the other end (unix(7), SO_PEERCRED); 0: not known.
  pid_t peer_process() const;
};

Socket describe_socket(const Description& description);

// Of an unread message.
struct UnreadMessage {
  std::string name;  // sockaddr of the sender
  pid_t sender = 0;  // as SCM_CREDENTIALS names it; 0: not at all
  std::vector<std::uint32_t> rights;
  std::string data;
};

class Sockets {
 public:
  // Makes all sockets of the plan. Throws Error.
  explicit Sockets(const RestartPlan& plan);

  static bool holds(const DescriptionPlan& item);
  int take(const DescriptionPlan& item);
  // Fills them and gives them their last options; `opened` has every description by its id.
  void complete(const std::map<std::uint32_t, int>& opened);

 private:
  Socket* find(std::uint64_t inode);
  int fd_of(const Socket& socket) const { return socket.own.is_open() ? socket.own.get() : socket.fd; }
  std::vector<UnreadMessage> read_queue(const Socket& socket) const;
  std::vector<int> rights_of(const UnreadMessage& message) const;
  void fill(Socket& socket);

  // rebuild-unix.cc
  void make_unix();
  void make_unix_idle(Socket& socket);
  void make_unix_pair(Socket& socket);
  void make_unix_ended(Socket& socket);
  void make_unix_outside(Socket& socket);
  void make_unix_waiting(std::uint64_t listener);
  bool is_shadowed(const Socket& socket);
  // A unix name, and the folder that it counts from if it is relative: that of the process.
  struct UnixName {
    std::string name;  // sockaddr
    std::string folder;
    bool operator==(const UnixName&) const = default;
  };
  UnixName name_in(const std::string& name, const Description& description) const;
  UnixName own_name(const Socket& socket) const;
  UnixName reachable_name(const Socket& socket) const;
  void bind_unix(int fd, const UnixName& name, const format::SocketState& state);
  static bool connect_to(int fd, const UnixName& name);  // false: errno says why
  static void connect_as(pid_t maker, int fd, const UnixName& name);
  void remove_gone_files();
  // One end of a connection that is to be made; `maker` is to be told at the other end as the one who made this one.
  struct UnixEnd {
    format::SocketState state;
    UnixName name;
    pid_t maker;
  };
  std::pair<Fd, Fd> connect_unix(const UnixEnd& from, const UnixEnd& to);
  Fd find_or_make_listener(const UnixEnd& to);
  Socket* find_by_name(const UnixName& name, bool is_listening);
  void fill_datagrams(Socket& socket, const std::vector<UnreadMessage>& messages);
  void connect_datagram(Socket& socket);

  void make_netlink();  // rebuild-netlink.cc

  // rebuild-inet.cc
  void make_inet();
  void make_tcp_connections();
  static void fill_tcp(int from, int to, const std::vector<UnreadMessage>& messages);
  static void end_tcp(Socket& socket);
  void fill_udp(Socket& socket, const std::vector<UnreadMessage>& messages);
  const Socket* find_udp_sender(const std::string& address) const;
  static void connect_udp(Socket& socket);

  const RestartPlan& plan_;
  std::vector<Socket> sockets_;
  const std::map<std::uint32_t, int>* opened_ = nullptr;
  std::set<std::string> gone_files_;       // of unix names that had lost their file
  std::vector<std::string> gone_folders_;  // that are there for those only
};

// Options before the socket gets a name, and all of them when it has its contents.
void set_early_options(int fd, const Socket& socket);
void set_last_options(int fd, const Socket& socket);

// The groups of a netlink socket, as a bitmap: not to be set as it is.
bool is_netlink_groups(const format::SocketOption& option);

// As much room as may be had, for the time in which it is filled; set_last_options() takes it back.
void enlarge_buffer(int fd);
// Sends one message whole, with descriptors. Throws Error.
void send_message(int fd, const UnreadMessage& message, const std::string& to, const std::vector<int>& rights = {});

// sockaddr as the kernel gave it.
std::string local_name(const format::SocketState& state);
std::string remote_name(const format::SocketState& state);
// Path of a unix name in the file system; empty: it has none.
std::string unix_path_of(const std::string& name);
// Whether a socket that exists has this unix name, which counts from `folder` if it is relative.
bool is_unix_name_taken(const std::string& name, const std::string& folder, std::uint32_t type);
// Whether a socket of this type that exists has this file, whatever its name. Nobody notices.
bool is_socket_file_used(const std::string& path, std::uint32_t type);
// Of TCP and UDP, for people.
std::string describe_address(const std::string& name);
// A TCP or UDP socket with its options and its name. Throws Error.
Fd make_bound_socket(const Socket& socket);

// One of kPlainSocket, complete. Throws Error.
Fd make_plain_socket(const Description& description);

// rebuild-factory.cc. One end of a TCP connection.
struct TcpEnd {
  int family;
  std::string address;  // sockaddr
  std::string remote;   // ″, of the other end as this one sees it
};
// Runs `make` in a thread inside a network namespace of its own, in which every address is local; where that is refused, in the
// machine's network. Throws what that throws.
void run_in_factory(const std::function<void()>& make);
// To be called inside: both ends, `own` first. `leads_outside`: the far end will be closed, and is another machine's, maybe.
std::pair<Fd, Fd> connect_in_factory(const TcpEnd& own, const TcpEnd& far, bool leads_outside);
// Connections that have ended hold their port for up to a minute (TIME_WAIT), unless their socket had SO_REUSEADDR: the far ends of
// those that are in the way of a bind to this address. Nothing: somebody else has it.
std::optional<std::vector<TcpEnd>> find_ended_connections(const std::string& address);
// Ends the wait of those whose far end is on this machine. What waits answers whoever calls from there with what it expects next;
// the caller has never heard of it, and its reset ends the wait (RFC 1337; not where the machine has set net.ipv4.tcp_rfc1337).
void end_old_connections(const std::string& address);

}  // namespace ckpt
