// saved: files and folders that the launch asked to carry in each image (ckpt-launch --save PATH).
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

// One file, folder, symbolic link or FIFO of a saved tree, folders before what is in them. Path and link target follow, each
// NUL-terminated.
struct SavedFileRecord {
  std::uint32_t mode;     // with the type, as st_mode
  std::uint32_t is_root;  // 1: a path that --save gave
  std::int64_t modified_ns;
  std::uint64_t size;
  std::uint32_t content;  // 1 + index of the process's kFileContent record; 0: none
  std::uint32_t path_size;
  std::uint32_t target_size;
  std::uint32_t reserved;
};

}  // namespace ckpt::format
