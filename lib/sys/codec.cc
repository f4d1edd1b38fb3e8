// lz4 and zstd through their allocator-free interfaces.
#define ZSTD_STATIC_LINKING_ONLY
#include "lib/sys/codec.h"

#include <lz4.h>
#include <zstd.h>

namespace ckpt::sys {

namespace {
constexpr int kDefaultLevel = 1;
int zstd_level(int level) { return level == 0 ? kDefaultLevel : level; }
}  // namespace

std::size_t compress_memory(format::Codec codec, int level) {
  switch (codec) {
    case format::Codec::kNone:
      return 0;
    case format::Codec::kLz4:
      return static_cast<std::size_t>(LZ4_sizeofState());
    case format::Codec::kZstd:
      return ZSTD_estimateCCtxSize(zstd_level(level));
  }
  return 0;
}

std::size_t decompress_memory(format::Codec codec) { return codec == format::Codec::kZstd ? ZSTD_estimateDCtxSize() : 0; }

std::size_t compress(format::Codec codec, int level, void* memory, std::size_t memory_size, const void* from, std::size_t size,
                     void* to, std::size_t capacity) {
  if (codec == format::Codec::kLz4) {
    const int result = LZ4_compress_fast_extState(memory, static_cast<const char*>(from), static_cast<char*>(to),
                                                  static_cast<int>(size), static_cast<int>(capacity), 1);
    return result > 0 ? static_cast<std::size_t>(result) : 0;
  }
  if (codec == format::Codec::kZstd) {
    ZSTD_CCtx* context = ZSTD_initStaticCCtx(memory, memory_size);
    if (context == nullptr) return 0;
    const std::size_t result = ZSTD_compressCCtx(context, to, capacity, from, size, zstd_level(level));
    return ZSTD_isError(result) ? 0 : result;
  }
  return 0;
}

bool decompress(format::Codec codec, void* memory, std::size_t memory_size, const void* from, std::size_t size, void* to,
                std::size_t raw_size) {
  if (codec == format::Codec::kLz4) {
    return LZ4_decompress_safe(static_cast<const char*>(from), static_cast<char*>(to), static_cast<int>(size),
                               static_cast<int>(raw_size)) == static_cast<int>(raw_size);
  }
  if (codec == format::Codec::kZstd) {
    ZSTD_DCtx* context = ZSTD_initStaticDCtx(memory, memory_size);
    return context != nullptr && ZSTD_decompressDCtx(context, to, raw_size, from, size) == raw_size;
  }
  return false;
}

}  // namespace ckpt::sys
