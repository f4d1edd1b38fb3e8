// signalfd: signals that are read.
#pragma once

#include <cstdint>

namespace ckpt::format {

struct SignalFdState {
  std::uint64_t mask;  // bit n − 1: signal n
};

}  // namespace ckpt::format
