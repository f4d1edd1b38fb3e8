// Where a process or a thread stands, from /proc.
#pragma once

#include <cstdint>

namespace ckpt {

inline constexpr std::uint32_t kNoUmask = ~0U;

// Of a status file; kNoUmask where it has none: the thread has ended.
std::uint32_t read_umask(const char* status_path);

struct Collector;
// A child would begin another pid namespace, or be born into one, and so would our writer.
bool check_pid_namespace(Collector* collector);

}  // namespace ckpt
