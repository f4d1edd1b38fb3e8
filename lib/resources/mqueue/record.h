// mqueue: POSIX message queues (mq_overview(7)). What is in one is the `content` of the first description that leads to it.
#pragma once

#include <cstdint>

namespace ckpt::format {

struct PosixQueueState {
  std::uint64_t max_messages;
  std::uint64_t message_size;
  std::uint32_t count;  // of messages in `content`
  std::uint32_t reserved;
};

// Each message, in the order of mq_receive(3): this, then its bytes, then zeros up to a multiple of 8.
struct PosixMessage {
  std::uint64_t size;
  std::uint32_t priority;
  std::uint32_t reserved;
};

// Who is told of the first message in a queue: this process, by a signal or not at all (mq_notify(3)).
struct QueueNotificationRecord {
  std::uint64_t inode;  // of the queue, when it was asked for; 0 in the runtime's table: a free entry
  std::uint64_t value;  // sigev_value
  std::int32_t fd;
  std::int32_t kind;  // SIGEV_SIGNAL, SIGEV_NONE
  std::int32_t signal;
  std::uint32_t reserved;
};

}  // namespace ckpt::format
