// The session: memory that the members of a job share during one checkpoint of several processes. The leader makes it (a memory
// file), members map it through /proc/PID/fd of the leader, their writers inherit it; nothing of it outlives the checkpoint.
//
// A versioned interface, as the control page: members of one job may run different versions.
#pragma once

#include <cstdint>

#include "lib/format/control.h"

namespace ckpt::format {

inline constexpr char kSessionMagic[8] = {'C', 'K', 'P', 'T', 'S', 'E', 'S', '\n'};
inline constexpr std::uint32_t kSessionVersion = 4;
inline constexpr std::uint32_t kMaxMembers = 4096;
inline constexpr std::uint32_t kMaxOpenEntries = 1U << 20;
inline constexpr std::uint32_t kMaxClaims = 1U << 16;

// A leader knocks at a member's door with kMemberCode (control.h); si_value: leader's pid << 32 | descriptor of the session.

// What all members do at a time. The leader moves on when everybody has arrived.
enum class Phase : std::uint32_t {
  kFreeze = 1,    // stop the own threads
  kList = 2,      // publish what is open
  kCollect = 3,   // describe everything; nothing has been changed yet
  kSnapshot = 4,  // fork the writer
  kGo = 5,        // all go on
  kCancel = 6,    // the same, and there is no image
};

enum class MemberState : std::uint32_t {
  kAsked = 1,   // has been knocked at
  kActive = 2,  // takes part
  kGone = 3,    // ended before it stood
};

struct Member {
  std::int32_t pid;
  MemberState state;
  std::uint64_t start_time;  // field 22 of /proc/PID/stat: a number may be used again
  Phase arrived;             // the last phase it has done
  std::uint32_t thread_count;
  std::int32_t writer;        // pid of its writer; 0: not yet
  std::uint32_t writer_step;  // WriterStep
  std::uint32_t is_stopped;   // 1: it was, as kIsStopped says
  std::uint32_t reserved;
  SyscallFacts door;  // of the thread that was knocked at
};

enum WriterStep : std::uint32_t { kWriting = 0, kDataWritten = 1, kIndexWritten = 2 };

// Address and port, the same for IPv4 and its form within IPv6.
struct Endpoint {
  std::uint8_t address[16];
  std::uint8_t port[2];  // as on the network
};

// A TCP or UDP socket, for the one who looks for its other end.
struct InetFacts {
  std::uint32_t type;     // SOCK_*; 0: the file is no such socket
  std::uint32_t state;    // tcp_info::tcpi_state
  std::uint64_t network;  // SO_NETNS_COOKIE
  std::uint64_t sent;     // bytes, also those that are still on their way
  std::uint32_t unsent;   // SIOCOUTQ: not acknowledged
  std::uint32_t waiting;  // listening: connections to be accepted
  Endpoint local, remote;
};

// An open file description as one member has it.
struct OpenEntry {
  std::uint32_t member;
  std::int32_t fd;
  std::uint64_t device, inode;
  std::uint32_t mode, status_flags;
  std::uint64_t offset;
  std::uint64_t raw_device;  // st_rdev
  std::uint32_t pair;        // number of the pseudo-terminal whose master it is; 0xffffffff: it is none
  std::uint32_t reserved;
  InetFacts inet;
};

// Who keeps the bytes of a file in the image: the first to claim it.
struct Claim {
  std::uint64_t device, inode;
};

struct Session {
  char magic[8];
  std::uint32_t version;
  std::uint32_t size;  // of this struct
  std::int32_t leader;
  Phase phase;           // a futex
  std::uint32_t events;  // a futex: counts arrivals of members and writers
  std::uint32_t member_count;
  std::uint32_t entry_count;
  std::uint32_t claim_count;
  std::uint32_t lock;  // of the claims, and of the first failure

  // The first failure.
  std::uint32_t has_failed;
  std::int32_t code;
  char message[1024];

  // Of the image that the writers make together.
  std::uint32_t is_output_ready;  // 1: `temporary` can be opened
  std::uint32_t may_index;        // 1: index_next is where index parts go
  std::uint64_t next_offset;
  std::uint32_t frame_count;
  std::uint32_t is_contained;  // 1: with the bytes of executables and libraries
  std::uint64_t memory_bytes;
  std::uint64_t index_next;
  char temporary[kPathBytes];

  Member members[kMaxMembers];
};

// Behind it: entries, claims, frames.
inline constexpr std::uint64_t kEntriesAt = 4U << 20;
inline constexpr std::uint64_t kClaimsAt = kEntriesAt + sizeof(OpenEntry) * kMaxOpenEntries;
inline constexpr std::uint64_t kFramesAt = kClaimsAt + sizeof(Claim) * kMaxClaims;
inline constexpr std::uint32_t kMaxSessionFrames = 64U << 20;
inline constexpr std::uint64_t kSessionSize = kFramesAt + sizeof(Frame) * kMaxSessionFrames;
static_assert(sizeof(Session) <= kEntriesAt);

}  // namespace ckpt::format
