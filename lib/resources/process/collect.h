// Where a process or a thread stands, from /proc.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ckpt {

inline constexpr std::uint32_t kNoUmask = ~0U;

// Of a status file; kNoUmask where it has none: the thread has ended.
std::uint32_t read_umask(const char* status_path);

// A number of a stat file, by its place there (proc_pid_stat(5), from the fourth on); -1 where it is negative or can't be read.
std::int32_t read_stat_field(const char* path, int wanted);

// The target of a link of /proc, NUL-terminated.
bool read_link(const char* link, char* to, std::size_t size);

}  // namespace ckpt
