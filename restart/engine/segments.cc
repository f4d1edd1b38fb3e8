// System V shared memory: attached where there is room, and moved part by part to where the program had it.
#include "restart/engine/segments.h"

namespace ckpt::engine {

namespace {

constexpr int kReadOnly = 010000;  // SHM_RDONLY
constexpr int kMove = 1 | 2;       // MAYMOVE | FIXED; an old size of zero leaves the old mapping where it is

bool is_writable(const format::HandArea& area) { return (area.flags & format::kMayWrite) != 0; }

}  // namespace

void SegmentMapper::map(const Engine& engine, const format::HandArea& area, std::int32_t segment) {
  const std::uint64_t base = area.start - area.file_offset;
  if (segment != segment_ || base != base_ || is_writable(area) != is_writable_) {
    release();
    const auto attached = sys::call(__NR_shmat, segment, 0, is_writable(area) ? 0 : kReadOnly);
    if (attached.failed()) die_at(engine, "cannot attach System V shared memory at", area.start, attached.error());
    *this = SegmentMapper(segment, base, is_writable(area), static_cast<std::uint64_t>(attached.value()));
  }
  const std::uint64_t size = area.end - area.start;
  auto result = sys::call(__NR_mremap, view_ + area.file_offset, 0, size, kMove, area.start);
  if (!result.failed()) result = sys::protect(area.start, size, area.protection);
  if (result.failed()) die_at(engine, "cannot map System V shared memory at", area.start, result.error());
}

void SegmentMapper::release() {
  if (segment_ >= 0) sys::call(__NR_shmdt, view_).ignore();
  segment_ = -1;
}

}  // namespace ckpt::engine
