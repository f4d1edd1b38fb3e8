// One line on stderr that shows how far a long step is: only on a terminal, not for TERM=dumb, not with --quiet, only after half a
// second; gone at the end.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ckpt {

class ProgressLine {
 public:
  ProgressLine(std::string what, bool is_quiet);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { clear(); }

  // Bytes done of `total` (0: not known). Cheap enough to be called often; draws at most ten times a second.
  void update(std::uint64_t done, std::uint64_t total);
  void clear();

 private:
  std::string what_;
  bool is_enabled_;
  bool is_drawn_ = false;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace ckpt
