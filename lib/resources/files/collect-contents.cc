// Bytes that go into the image as they are now: copied into memory while everything stands, written by the writer.
#include "lib/sys/proc-file.h"

#include "lib/resources/files/collect.h"

namespace ckpt {

namespace {

constexpr std::uint64_t kChunk = 8U << 20;  // small ones share a mapping
constexpr int kSeekData = 3, kSeekHole = 4;

// Half of what the machine has to spare: the copy must not bring the OOM killer upon the program. In bytes; proc_meminfo(5).
std::uint64_t limit_of_copies() {
  char buffer[512];
  sys::FieldReader memory("/proc/meminfo", buffer);
  const char* available = memory.find("MemAvailable");
  return available == nullptr ? 1ULL << 30 : sys::parse_decimal(&available) * 1024 / 2;
}

bool keep_piece(Collector* collector, int fd, std::uint64_t begin, std::uint64_t end) {
  std::uint8_t* data = add_piece(collector, begin, end - begin);
  if (data == nullptr) return false;
  const auto count = sys::pread_all(fd, data, end - begin, begin);
  return !count.failed() && static_cast<std::uint64_t>(count.value()) == end - begin;
}

}  // namespace

std::uint8_t* add_piece(Collector* collector, std::uint64_t offset, std::uint64_t size) {
  if (collector->pieces == nullptr) collector->pieces = collector->arena->take_array<KeptPiece>(kMaxPieces);
  if (collector->pieces == nullptr || collector->piece_count == kMaxPieces) return nullptr;
  if (size > collector->copy_left) {
    if (collector->copied == 0) collector->copy_limit = limit_of_copies();
    const std::uint64_t room = size > kChunk ? format::align_up(size, format::kPageSize) : kChunk;
    if (collector->chunk_count == kMaxChunksOfCopies || collector->copied + room > collector->copy_limit) return nullptr;
    const auto mapped = sys::map(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    if (mapped.failed()) return nullptr;
    const auto begin = static_cast<std::uint64_t>(mapped.value());
    collector->chunks[collector->chunk_count++] = {begin, begin + room};
    collector->copied += room;
    collector->copy_next = begin;
    collector->copy_left = room;
  }
  auto* data = reinterpret_cast<std::uint8_t*>(collector->copy_next);
  collector->copy_next += size;
  collector->copy_left -= size;
  collector->pieces[collector->piece_count++] = {data, offset, size};
  return data;
}

void shorten_piece(Collector* collector, std::uint64_t size) {
  KeptPiece* piece = &collector->pieces[collector->piece_count - 1];
  collector->copy_next -= piece->size - size;
  collector->copy_left += piece->size - size;
  piece->size = size;
}

void free_copies(Collector* collector) {
  for (unsigned i = 0; i < collector->chunk_count; ++i) {
    sys::unmap(collector->chunks[i].begin, collector->chunks[i].end - collector->chunks[i].begin).ignore();
  }
}

void await_other_time(std::int64_t modified_ns) {
  constexpr int kMostTicks = 25;
  constexpr std::int64_t kNear = 1'000'000'000;  // else the file's clock is not ours, or somebody has set its time
  for (int i = 0; i < kMostTicks; ++i) {
    const std::int64_t now = sys::clock_ns(CLOCK_REALTIME_COARSE);
    if (now > modified_ns || modified_ns - now > kNear) return;
    const __kernel_timespec pause{0, 1'000'000};
    sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  }
}

std::uint32_t add_content(Collector* collector, const FileFacts& facts, std::uint64_t size, unsigned first_piece) {
  if (collector->contents == nullptr) collector->contents = collector->arena->take_array<KeptContent>(kMaxContents);
  if (collector->contents == nullptr || collector->content_count == kMaxContents) return 0;
  collector->contents[collector->content_count] = {facts.device, facts.inode, size, first_piece,
                                                   collector->piece_count - first_piece};
  return ++collector->content_count;
}

std::uint32_t find_content(const Collector& collector, const FileFacts& facts) {
  for (unsigned i = collector.content_count; i-- > 0;) {
    if (collector.contents[i].inode == facts.inode && collector.contents[i].device == facts.device) return i + 1;
  }
  return 0;
}

std::uint32_t keep_file(Collector* collector, int fd, const FileFacts& facts) {
  if (const std::uint32_t known = find_content(*collector, facts); known != 0) return known;
  const unsigned first = collector->piece_count;
  for (std::uint64_t at = 0; at < facts.size;) {
    const auto data = sys::call(__NR_lseek, fd, at, kSeekData);
    if (data.failed()) break;  // ENXIO: a hole up to the end
    const auto hole = sys::call(__NR_lseek, fd, data.value(), kSeekHole);
    std::uint64_t end = hole.failed() ? facts.size : static_cast<std::uint64_t>(hole.value());
    if (end > facts.size) end = facts.size;
    if (!keep_piece(collector, fd, static_cast<std::uint64_t>(data.value()), end)) return 0;
    at = end;
  }
  return add_content(collector, facts, facts.size, first);
}

}  // namespace ckpt
