// The only place of the hosted library where xxHash is expanded.
#include "lib/common/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ckpt {

struct Hasher::State {
  XXH3_state_t inner;
};

format::Hash128 hash_bytes(std::span<const std::byte> data) {
  const XXH128_hash_t hash = XXH3_128bits(data.data(), data.size());
  return {hash.low64, hash.high64};
}

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->inner); }
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::update(std::span<const std::byte> data) { XXH3_128bits_update(&state_->inner, data.data(), data.size()); }

format::Hash128 Hasher::digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->inner);
  return {hash.low64, hash.high64};
}

}  // namespace ckpt
