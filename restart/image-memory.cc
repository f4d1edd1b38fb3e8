// A frame is decoded for each word: for a few words only.
#include "restart/image-memory.h"

#include <cstring>

namespace ckpt {

std::uint64_t word_at(const Image& image, const ProcessImage& process, std::uint64_t address) {
  for (const auto& extent : process.extents) {
    if (address < extent.start || address >= extent.start + extent.pages * format::kPageSize) continue;
    if (extent.kind != format::PageKind::kHere) return 0;
    const auto frame = image.read_frame(extent.frame);
    std::uint64_t word = 0;
    const std::uint64_t offset = extent.frame_offset + (address - extent.start);
    if (offset + sizeof(word) <= frame.size()) std::memcpy(&word, frame.data() + offset, sizeof(word));
    return word;
  }
  return 0;
}

}  // namespace ckpt
