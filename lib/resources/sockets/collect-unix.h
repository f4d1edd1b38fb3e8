// What the kernel's socket diagnostics (sock_diag(7)) tell about unix sockets, by inode. Not those of another network namespace.
#pragma once

#include "lib/resources/sockets/collect.h"

namespace ckpt {

inline constexpr unsigned kMostWaiting = 1024;  // the kernel's answer is a page at most

struct UnixFacts {
  std::uint8_t state;
  std::uint8_t shutdown;
  bool has_peer;
  std::uint32_t peer;  // 0: closed
  std::uint32_t backlog;
  bool has_file;
  std::uint32_t file_inode;
  std::uint32_t waiting[kMostWaiting];  // inodes of those that nobody has accepted yet, the next one first
  unsigned waiting_count;
};

// False: the kernel does not tell.
bool ask_unix_socket(std::uint64_t inode, UnixFacts* facts);

// The same for each of a process's sockets, but who waits at it. The kernel looks through all sockets of the machine for one: when
// there are many to be asked for, all are asked for at once, and noted.
bool find_unix_socket(Collector* collector, std::uint64_t inode, UnixFacts* facts);

}  // namespace ckpt
