// Which pages of a range are the program's own: present or swapped, not a file's, not the zero page.
#pragma once

#include <cstdint>

#include "lib/sys/calls.h"

namespace ckpt {

struct PageRun {
  std::uint64_t begin;
  std::uint64_t end;
  bool is_present;  // else swapped; so are guards shown (MADV_GUARD_INSTALL)
};

// Reads the calling process's own page map, by PAGEMAP_SCAN (Linux 6.7) or, where that is missing, by the pagemap file.
class PageMap {
 public:
  PageMap() : fd_(sys::open("/proc/self/pagemap", O_RDONLY)) {}
  bool is_open() const { return fd_.is_open(); }
  // Up to `capacity` runs from *at on, ascending; *at moves to where the next call goes on (`end` when done). −1: failed.
  int find(std::uint64_t* at, std::uint64_t end, PageRun* runs, unsigned capacity);
  // Present or swapped. False as well if that can't be read.
  bool is_there(std::uint64_t page);

 private:
  int scan(std::uint64_t* at, std::uint64_t end, PageRun* runs, unsigned capacity);
  int read_entries(std::uint64_t* at, std::uint64_t end, PageRun* runs, unsigned capacity);
  sys::Fd fd_;
  bool has_scan_ = true;
};

}  // namespace ckpt
