// Asking a running process for a checkpoint through its control page, and waiting for the outcome.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "lib/common/control.h"

namespace ckpt {

struct CheckpointRequest {
  pid_t pid = 0;
  std::uint32_t flags = 0;                    // format::RequestFlags
  std::string file;                           // absolute; empty: as the job's settings say
  std::chrono::milliseconds timeout{10'000};  // for stopping all threads
  // Called about ten times a second while the image is written.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
  // Called with the reason, once for each, while something has to pass before the program can be saved.
  std::function<void(const std::string& reason)> waiting;
};

// Returns what the runtime reported, failure included (Result::code). Throws Error if it did not come to that: 66 no such process,
// 69 not launched for checkpointing, 75 busy, 77 not ours, 1 no answer or ended meanwhile.
format::Result request_checkpoint(Control& control, const CheckpointRequest& request);

}  // namespace ckpt
