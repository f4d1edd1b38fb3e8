// Compression without an allocator: the caller gives the working memory.
#pragma once

#include <cstddef>

#include "lib/format/image.h"

namespace ckpt::sys {

// Bytes of working memory that compress() and decompress() need for this codec.
std::size_t compress_memory(format::Codec codec, int level);
std::size_t decompress_memory(format::Codec codec);

// Compressed size, or 0: does not fit into `capacity` (then it is better stored as it is).
std::size_t compress(format::Codec codec, int level, void* memory, std::size_t memory_size, const void* from, std::size_t size,
                     void* to, std::size_t capacity);

// False: the data is damaged or does not give exactly `raw_size` bytes.
bool decompress(format::Codec codec, void* memory, std::size_t memory_size, const void* from, std::size_t size, void* to,
                std::size_t raw_size);

}  // namespace ckpt::sys
