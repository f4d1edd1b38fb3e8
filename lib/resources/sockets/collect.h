// What the parts of collecting sockets share. Freestanding; in the leader, all threads standing.
#pragma once

#include <span>

#include "lib/resources/files/collect.h"
#include "lib/resources/sockets/record.h"

namespace ckpt {

// From the kernel's own headers, which do not go together with each other or are not for programs.
inline constexpr int kAfUnix = 1, kAfInet = 2, kAfInet6 = 10, kAfNetlink = 16;
inline constexpr int kStream = 1, kDatagram = 2, kRaw = 3, kSeqpacket = 5;
inline constexpr int kSolSocket = 1;

struct PollEntry {
  int fd;
  short events;
  short returned;
};
// Which of the events hold now.
unsigned poll_now(int fd, unsigned events);

// An int of getsockopt(2); `otherwise` if it can't be had.
int socket_option(int fd, int level, int name, int otherwise);

format::SocketState* socket_state(const OpenDescription& end);
bool is_socket(const OpenDescription& end);

// Starts and ends the line that says why this socket can't be saved; returns false.
bool refuse_socket(Collector* collector, int fd, const format::SocketState& state, const char* reason);
// A listening socket in whose queue somebody waits who has closed the other end: refused for the moment.
bool refuse_ended_waiting(Collector* collector, const OpenDescription& listener);

// Each fills in what is particular to its family, and refuses what can't be saved.
bool collect_unix_socket(Collector* collector, const Descriptor& descriptor, format::SocketState* state);
bool collect_inet_socket(Collector* collector, const Descriptor& descriptor, format::SocketState* state);
bool collect_plain_socket(Collector* collector, const Descriptor& descriptor, format::SocketState* state);
// Whether the socket is of a kind that is made anew (collect-plain.cc).
bool is_plain_socket(const format::SocketState& state);
bool collect_netlink_socket(Collector* collector, const Descriptor& descriptor, const format::SocketState& state);

// Adds the groups that a netlink socket listens to, as one option.
bool collect_netlink_groups(Collector* collector, int fd, const format::SocketState& facts, Buffer* state);

// Adds the multicast groups it has joined, as the options that join them.
bool collect_groups(Collector* collector, int fd, const format::SocketState& facts, Buffer* state);

// Copies what the socket has received and nobody has read, without taking it out; its content stays 0 when there is nothing.
// `listing`: where descriptors that come with it are described; nullptr: none can.
bool keep_queue(Collector* collector, const OpenDescription& end, Listing* listing);

}  // namespace ckpt
