// signals: dispositions and what is pending.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

// As the kernel's rt_sigaction(2) takes it.
struct SignalActionRecord {
  std::uint32_t signal;
  std::uint32_t reserved;
  std::uint64_t handler;
  std::uint64_t flags;
  std::uint64_t restorer;
  std::uint64_t mask;
};

struct PendingSignalRecord {
  std::int32_t tid;  // 0: pending for the process
  std::uint32_t reserved;
  std::uint8_t info[128];  // siginfo_t of the kernel
};

}  // namespace ckpt::format
