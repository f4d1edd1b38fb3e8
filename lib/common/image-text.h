// Images as text for people: the table of ckpt-ls, and what is inside one.
#pragma once

#include <string>
#include <vector>

#include "lib/common/image-reader.h"
#include "lib/common/store.h"

namespace ckpt {

enum class ImageState { kOk, kDamaged, kPartial };

// An image as it is listed.
struct ListedImage {
  StoredImage stored;
  ImageState state;
};

const char* name_of(ImageState state);
const char* name_of(format::Codec codec);
const char* name_of(format::AreaKind kind);
const char* name_of(format::DescriptionKind kind);
// 32 hex digits.
std::string hex_of(const format::Id128& id);
// "rwx", "r--".
std::string protection_of(const format::AreaRecord& area);
// Of the file or memory object behind the area, or its name.
std::string path_of(const ProcessImage& process, const Area& area);

struct PageCounts {
  std::uint64_t here = 0;
  std::uint64_t zero = 0;
  std::uint64_t file = 0;
  std::uint64_t guard = 0;
};
// For each area of the process.
std::vector<PageCounts> count_pages(const ProcessImage& process);

// One line an image under a line of column names; no column holds a blank but the last, the path. `now_ns` is for the ages.
std::string format_table(const std::vector<ListedImage>& images, bool is_long, std::int64_t now_ns, bool is_coloured);

// Areas, threads, descriptors and signals.
std::string format_map(const Image& image);

}  // namespace ckpt
