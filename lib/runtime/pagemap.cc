// The page map of the writer. Any freestanding context.
#include "lib/runtime/pagemap.h"

#include <linux/ioctl.h>

#include "lib/format/image.h"

namespace ckpt {

namespace {

// linux/fs.h of 6.7; Debian 12's headers are older.
struct ScanRegion {
  std::uint64_t begin;
  std::uint64_t end;
  std::uint64_t categories;
};
struct ScanArguments {
  std::uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
  std::uint64_t category_inverted, category_mask, category_any, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
constexpr std::uint64_t kIsFile = 1U << 2, kIsPresent = 1U << 3, kIsSwapped = 1U << 4, kIsZeroPage = 1U << 5;

constexpr std::uint64_t kEntryPresent = 1ULL << 63, kEntrySwapped = 1ULL << 62, kEntryFile = 1ULL << 61;

}  // namespace

int PageMap::scan(std::uint64_t* at, std::uint64_t end, PageRun* runs, unsigned capacity) {
  constexpr unsigned kRegions = 64;
  ScanRegion regions[kRegions];
  ScanArguments arguments{};
  arguments.size = sizeof(arguments);
  arguments.start = *at;
  arguments.end = end;
  arguments.regions = reinterpret_cast<std::uint64_t>(regions);
  arguments.region_count = capacity < kRegions ? capacity : kRegions;
  arguments.category_inverted = arguments.category_mask = kIsFile | kIsZeroPage;
  arguments.category_any = kIsPresent | kIsSwapped;
  arguments.return_mask = kIsPresent;
  const auto result = sys::call(__NR_ioctl, fd_.get(), kPagemapScan, &arguments);
  if (result.failed()) return -1;
  for (long i = 0; i < result.value(); ++i) {
    runs[i] = {regions[i].begin, regions[i].end, (regions[i].categories & kIsPresent) != 0};
  }
  *at = arguments.walk_end;
  return static_cast<int>(result.value());
}

int PageMap::read_entries(std::uint64_t* at, std::uint64_t end, PageRun* runs, unsigned capacity) {
  constexpr unsigned kEntries = 512;
  std::uint64_t entries[kEntries];
  unsigned count = 0;
  while (*at < end && count < capacity) {
    const std::uint64_t pages = (end - *at) / format::kPageSize;
    const std::size_t wanted = (pages < kEntries ? pages : kEntries) * sizeof(std::uint64_t);
    const auto got = sys::pread_all(fd_.get(), entries, wanted, *at / format::kPageSize * sizeof(std::uint64_t));
    if (got.failed() || static_cast<std::size_t>(got.value()) != wanted) return -1;
    for (std::size_t i = 0; i < wanted / sizeof(std::uint64_t); ++i, *at += format::kPageSize) {
      const bool is_own = (entries[i] & (kEntryPresent | kEntrySwapped)) != 0 && (entries[i] & kEntryFile) == 0;
      if (!is_own) continue;
      const bool is_present = (entries[i] & kEntryPresent) != 0;
      if (count > 0 && runs[count - 1].end == *at && runs[count - 1].is_present == is_present) {
        runs[count - 1].end += format::kPageSize;
      } else if (count == capacity) {
        return static_cast<int>(count);
      } else {
        runs[count++] = {*at, *at + format::kPageSize, is_present};
      }
    }
  }
  return static_cast<int>(count);
}

bool PageMap::is_there(std::uint64_t page) {
  std::uint64_t entry = 0;
  const auto got = sys::pread_all(fd_.get(), &entry, sizeof(entry), page / format::kPageSize * sizeof(entry));
  return !got.failed() && (entry & (kEntryPresent | kEntrySwapped)) != 0;
}

int PageMap::find(std::uint64_t* at, std::uint64_t end, PageRun* runs, unsigned capacity) {
  if (has_scan_) {
    const int count = scan(at, end, runs, capacity);
    if (count >= 0) return count;
    has_scan_ = false;
  }
  return read_entries(at, end, runs, capacity);
}

}  // namespace ckpt
