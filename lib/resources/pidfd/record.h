// pidfd: descriptors of processes.
#pragma once

#include <cstdint>

namespace ckpt::format {

struct PidFdState {
  std::int32_t pid;         // -1: it has ended and was waited for
  std::uint32_t is_thread;  // PIDFD_THREAD
};

}  // namespace ckpt::format
