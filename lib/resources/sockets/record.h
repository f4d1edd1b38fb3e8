// sockets: unix, inet and netlink sockets; how they stand, and what is in them.
#pragma once

#include <cstdint>

namespace ckpt::format {

inline constexpr int kWidestWindow = 1 << 29;  // bytes, while a TCP connection is emptied or filled; twice as much is an int

enum class SocketStage : std::uint32_t {
  kIdle = 0,       // neither of the below; a name it may have
  kListening = 1,  // `backlog`
  kConnected = 2,  // `peer`, where the other end is a socket of the job; else SocketState::kLeadsOutside
  kEnded = 3,      // was connected, and the other end is closed
  kWaiting = 4,    // connected, and not accepted yet: number `backlog` in the queue of the listening socket `peer`
  kLast = kWaiting,
};

// State of a socket; SocketOption[] follows. What it has received and not read is the kept content of its description: a run of
// QueuedMessage. What it has sent stands there at the other end.
struct SocketState {
  static constexpr std::uint32_t kLeadsOutside = 1;  // connected to what is not part of the job
  static constexpr std::uint32_t kHasError = 2;      // a reset that nobody has been told yet
  static constexpr std::uint32_t kHasFile = 4;       // the file of a unix name is there, with `file_mode`
  static constexpr std::uint32_t kIsRenamed = 8;     // the file of a unix name has got another one: `remote`; `file_mode`
  static constexpr std::uint32_t kKnownFlags = 15;
  static constexpr std::uint32_t kShutReceive = 1, kShutSend = 2;

  std::uint32_t family;  // AF_*
  std::uint32_t type;    // SOCK_*
  std::uint32_t protocol;
  SocketStage stage;
  std::uint32_t shutdown;  // kShutReceive, kShutSend: by the program itself, or by the other end
  std::uint32_t backlog;
  std::uint32_t flags;
  std::uint32_t file_mode;
  std::uint64_t peer;  // inode of the other end; 0: none
  std::uint32_t local_size;
  std::uint32_t remote_size;
  std::uint8_t local[128];   // sockaddr as the kernel gives it
  std::uint8_t remote[128];  // ″
};

// One option, as getsockopt(2) gives it. A filter (SO_ATTACH_FILTER) is a run of them, each with up to kFilterPiece instructions.
inline constexpr unsigned kFilterPiece = 2;
struct SocketOption {
  std::int32_t level;
  std::int32_t name;
  std::uint32_t size;
  std::uint8_t value[20];
};

// One message, or a piece of a stream. Name of the sender, then the data follow, each padded to 8 bytes.
struct QueuedMessage {
  std::uint32_t size;
  std::uint32_t name_size;
  std::uint32_t right_count;  // descriptors with it: ids of descriptions, 4 bytes each, between name and data
  std::int32_t sender;        // the process that SCM_CREDENTIALS will name; 0: none
};

}  // namespace ckpt::format
