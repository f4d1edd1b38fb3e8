// What a file is: the fields of statx(2) by which it is known again.
#pragma once

#include <cstdint>

#include "lib/sys/calls.h"

namespace ckpt {

struct FileFacts {
  std::uint64_t device, inode, size, raw_device;  // devices as major << 32 | minor
  std::int64_t modified_ns;
  std::uint32_t mode, links;
};

// Of the open file `fd` when `path` is "", else of the path.
sys::SysResult read_facts(int fd, const char* path, FileFacts* facts);
// Of a symbolic link itself, where the path names one.
sys::SysResult read_link_facts(const char* path, FileFacts* facts);

}  // namespace ckpt
