// freeze-loop PID COUNT: freezes the process COUNT times in a row, without writing an image, and prints what a freeze costs.
// For tests of what a program notices of being stopped; it ends with 1 at the first freeze that fails.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "lib/common/checkpoint.h"

namespace {

long parse(const char* text) {
  long value = 0;
  const char* end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, value);
  if (error != std::errc() || at != end || value < 1) throw std::runtime_error("usage: freeze-loop PID COUNT");
  return value;
}

void run(pid_t pid, long count) {
  const std::string path = ckpt::find_control_file(pid);
  std::vector<double> stalls;
  for (long i = 0; i < count; ++i) {
    ckpt::Control control(path);
    ckpt::CheckpointRequest request;
    request.pid = pid;
    request.flags = ckpt::format::kCheckOnly;
    const ckpt::format::Result result = ckpt::request_checkpoint(control, request);
    if (result.code != 0) throw std::runtime_error("freeze " + std::to_string(i) + ": " + result.message);
    stalls.push_back(static_cast<double>(result.stall_ns) / 1e6);
  }
  std::sort(stalls.begin(), stalls.end());
  std::printf("%ld freezes: median %.3f ms, longest %.3f ms\n", count, stalls[stalls.size() / 2], stalls.back());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3) throw std::runtime_error("usage: freeze-loop PID COUNT");
    run(static_cast<pid_t>(parse(argv[1])), parse(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "freeze-loop: %s\n", error.what());
    return 1;
  }
  return 0;
}
