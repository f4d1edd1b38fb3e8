// memory: objects of the reserved pool of huge pages (hugetlb), whose files know neither holes nor a second mapping by mremap(2).
// They are read huge page by huge page, and pages of zeros are left out: they need none of the pool. Where no descriptor is left,
// what is mapped is all that can be seen; reading a page there that nobody has touched takes it from those the mapping has
// reserved.
#include "lib/resources/memory/collect.h"

#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::kPageSize;

constexpr std::uint64_t kStep = 2U << 20;  // at a time; larger pages are of so many

// Where the bytes are read: at `delta` above their place in the object.
struct Source {
  int fd;
  std::uint64_t delta;
};

bool is_zero(const std::uint8_t* data, std::uint64_t size) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(data);
  std::uint64_t any = 0;
  for (std::uint64_t i = 0; i < size / sizeof(*words); ++i) any |= words[i];
  return any == 0;
}

// What can't be read is a page that the pool had none left for, and so nothing is in it.
bool keep_run(Collector* collector, const Source& source, std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t at = begin; at < end; at += kStep) {
    const std::uint64_t size = end - at < kStep ? end - at : kStep;
    std::uint8_t* data = add_piece(collector, at, size);
    if (data == nullptr) return false;
    const auto count = sys::pread_all(source.fd, data, size, at + source.delta);
    const bool is_there = !count.failed() && static_cast<std::uint64_t>(count.value()) == size;
    if (is_there && !is_zero(data, size)) continue;
    shorten_piece(collector, 0);
    --collector->piece_count;
  }
  return true;
}

// The area that shows the object at `offset`, or the next one above.
const format::AreaRecord* find_area(const Collector& collector, std::uint32_t object, std::uint64_t offset) {
  const format::AreaRecord* best = nullptr;
  for (unsigned i = 0; i < collector.area_count; ++i) {
    const format::AreaRecord* area = collector.areas[i];
    if (area->kind != format::AreaKind::kSharedObject || area->file != object) continue;
    if (area->offset + (area->end - area->start) <= offset) continue;
    if (best == nullptr || area->offset < best->offset) best = area;
  }
  return best;
}

bool keep_mapped(Collector* collector, std::uint32_t object) {
  const sys::Fd memory(sys::open("/proc/self/mem", O_RDONLY));
  std::uint64_t offset = 0;
  while (const format::AreaRecord* area = find_area(*collector, object, offset)) {
    const std::uint64_t end = area->offset + (area->end - area->start);
    const Source source{memory.get(), area->start - area->offset};
    if (!keep_run(collector, source, area->offset > offset ? area->offset : offset, end)) return false;
    offset = end;
  }
  return memory.is_open();
}

}  // namespace

std::uint32_t keep_huge_object(Collector* collector, std::uint32_t object, int fd, const FileFacts& facts) {
  if (const std::uint32_t known = find_content(*collector, facts); known != 0) return known;
  const unsigned first = collector->piece_count;
  if (fd >= 0 ? !keep_run(collector, {fd, 0}, 0, facts.size) : !keep_mapped(collector, object)) return 0;
  return add_content(collector, facts, facts.size, first);
}

}  // namespace ckpt
