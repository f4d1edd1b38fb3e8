// XXH3, 128 bits, as the image stores it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "lib/format/image.h"

namespace ckpt {

format::Hash128 hash_bytes(std::span<const std::byte> data);

// For data that comes in pieces.
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  ~Hasher();
  void update(std::span<const std::byte> data);
  format::Hash128 digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ckpt
