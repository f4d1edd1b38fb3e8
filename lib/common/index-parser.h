// From the bytes of an index to a JobImage. Every byte is hostile: whatever does not fit throws BadIndex.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>

#include "lib/common/job-image.h"

namespace ckpt {

// What is wrong, as a clause: "area 5 overlaps the one before it".
class BadIndex : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The first address that user memory can't have.
inline constexpr std::uint64_t kAddressLimit = std::uint64_t{1} << 47;

// Fills in job, frames and processes; `image.header` must be set and checked.
void parse_index(std::span<const std::byte> index, JobImage& image);

}  // namespace ckpt
