// XXH3, 128 bits: freestanding, over whole buffers or piece by piece.
#pragma once

#include <cstddef>

#include "lib/format/image.h"

namespace ckpt::sys {

format::Hash128 hash_bytes(const void* data, std::size_t size);

class Hasher {
 public:
  Hasher() { reset(); }
  void reset();
  void add(const void* data, std::size_t size);
  format::Hash128 finish() const;

 private:
  alignas(64) unsigned char state_[640];  // XXH3_state_t; checked in hash.cc
};

}  // namespace ckpt::sys
