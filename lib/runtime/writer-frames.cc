// The writer's frames: compress, hash, place in the file. Called by several threads at once.
#include "lib/runtime/writer.h"
#include "lib/sys/codec.h"
#include "lib/sys/hash.h"

namespace ckpt {

namespace {

struct IoVector {
  const void* base;
  std::uint64_t size;
};
constexpr unsigned kMaxPieces = format::kMaxFrameSize / format::kPageSize;

std::uint64_t take_room(Output* output, std::uint64_t size, bool is_aligned) {
  std::uint64_t next = __atomic_load_n(output->next_offset, __ATOMIC_RELAXED);
  for (;;) {
    const std::uint64_t begin = is_aligned ? format::align_up(next, format::kPageSize) : next;
    if (__atomic_compare_exchange_n(output->next_offset, &next, begin + size, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return begin;
  }
}

void note_error(Output* output, int error) {
  int expected = 0;
  __atomic_compare_exchange_n(&output->error, &expected, error, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool write_pieces(Output* output, const Piece* pieces, unsigned count, std::uint32_t size, std::uint64_t offset) {
  IoVector vectors[kMaxPieces];
  for (unsigned i = 0; i < count; ++i) vectors[i] = {pieces[i].data, pieces[i].size};
  const auto result = sys::call(__NR_pwritev, output->fd, vectors, count, offset, 0);
  std::uint64_t done = result.failed() ? 0 : static_cast<std::uint64_t>(result.value());
  if (result.failed() && result.error() != sys::kEintr) {
    note_error(output, result.error());
    return false;
  }
  if (done == size) return true;
  std::uint64_t position = 0;  // a short count, near a full disk: the rest piece by piece, until it says why
  for (unsigned i = 0; i < count; ++i) {
    const std::uint64_t skip = done > position ? done - position : 0;
    if (skip < pieces[i].size) {
      const auto rest = sys::pwrite_all(output->fd, pieces[i].data + skip, pieces[i].size - skip, offset + position + skip);
      if (rest.failed()) {
        note_error(output, rest.error());
        return false;
      }
    }
    position += pieces[i].size;
  }
  return true;
}

format::Hash128 hash_pieces(const Piece* pieces, unsigned count) {
  if (count == 1) return sys::hash_bytes(pieces[0].data, pieces[0].size);
  sys::Hasher hasher;
  for (unsigned i = 0; i < count; ++i) hasher.add(pieces[i].data, pieces[i].size);
  return hasher.finish();
}

// Into tools.packed; 0: stays as it is.
std::size_t pack(const Output& output, const FrameTools& tools, const Piece* pieces, unsigned count, std::uint32_t raw_size) {
  if (output.codec == format::Codec::kNone) return 0;
  const std::uint8_t* from = pieces[0].data;
  if (count > 1) {
    std::uint8_t* gathered = tools.packed + format::kMaxFrameSize;
    std::uint64_t position = 0;
    for (unsigned i = 0; i < count; ++i) {
      memcpy(gathered + position, pieces[i].data, pieces[i].size);
      position += pieces[i].size;
    }
    from = gathered;
  }
  // Less than a sixteenth gained is not worth the decoding.
  return sys::compress(output.codec, output.level, tools.memory, tools.memory_size, from, raw_size, tools.packed,
                       raw_size - raw_size / 16);
}

}  // namespace

bool make_tools(const Output& output, FrameTools* tools) {
  *tools = {};
  if (output.codec == format::Codec::kNone) return true;
  tools->memory_size = sys::compress_memory(output.codec, output.level);
  const std::size_t packed = 2 * format::kMaxFrameSize;  // the compressed frame, and pieces put together
  const auto room = sys::map(0, packed + tools->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) return false;
  tools->packed = reinterpret_cast<std::uint8_t*>(room.value());
  tools->memory = tools->packed + packed;
  return true;
}

bool write_frame(Output* output, const FrameTools& tools, const Piece* pieces, unsigned piece_count, std::uint32_t raw_size,
                 std::uint32_t* frame) {
  if (__atomic_load_n(&output->error, __ATOMIC_RELAXED) != 0) return false;
  *frame = __atomic_fetch_add(output->frame_count, 1, __ATOMIC_RELAXED);
  if (*frame >= output->frame_capacity) {
    note_error(output, sys::kEfbig);
    return false;
  }
  const std::size_t packed_size = pack(*output, tools, pieces, piece_count, raw_size);
  const Piece packed{tools.packed, static_cast<std::uint32_t>(packed_size)};
  if (packed_size > 0) pieces = &packed, piece_count = 1;
  const std::uint32_t stored = packed_size > 0 ? packed.size : raw_size;
  const std::uint64_t offset = take_room(output, stored, packed_size == 0);
  format::Frame entry{};
  entry.offset = offset;
  entry.stored_size = stored;
  entry.raw_size = raw_size;
  entry.codec = packed_size > 0 ? output->codec : format::Codec::kNone;
  entry.hash = hash_pieces(pieces, piece_count);
  output->frames[*frame] = entry;
  __atomic_fetch_add(output->memory_bytes, raw_size, __ATOMIC_RELAXED);
  return write_pieces(output, pieces, piece_count, stored, offset);
}

}  // namespace ckpt
