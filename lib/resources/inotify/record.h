// inotify: what is watched. Unread events can't be put back, so there are none.
#pragma once

#include <cstdint>

namespace ckpt::format {

// `count` times InotifyWatch and its path, NUL-terminated, each on a multiple of 8 bytes.
struct InotifyState {
  std::uint32_t count;
  std::uint32_t reserved;
};

struct InotifyWatch {
  std::int32_t descriptor;  // what inotify_add_watch(2) returned
  std::uint32_t mask;
  std::uint32_t path_size;
  std::uint32_t reserved;
};

}  // namespace ckpt::format
