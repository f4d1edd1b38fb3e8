// eventfd: eventfd(2) counters.
#pragma once

#include <cstdint>

namespace ckpt::format {

struct EventFdState {
  std::uint64_t count;
  std::uint32_t is_semaphore;  // EFD_SEMAPHORE
  std::uint32_t reserved;
};

}  // namespace ckpt::format
