// XXH3 from the xxHash library, compiled in. Its own file: the library's header brings libc's types with it.
#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include "lib/sys/hash.h"

#include <xxhash.h>

namespace ckpt::sys {

namespace {
format::Hash128 to_hash(XXH128_hash_t hash) { return {hash.low64, hash.high64}; }
}  // namespace

format::Hash128 hash_bytes(const void* data, std::size_t size) { return to_hash(XXH3_128bits(data, size)); }

void Hasher::reset() {
  static_assert(sizeof(XXH3_state_t) <= sizeof(state_) && alignof(XXH3_state_t) <= 64);
  XXH3_128bits_reset(reinterpret_cast<XXH3_state_t*>(state_));
}

void Hasher::add(const void* data, std::size_t size) { XXH3_128bits_update(reinterpret_cast<XXH3_state_t*>(state_), data, size); }

format::Hash128 Hasher::finish() const { return to_hash(XXH3_128bits_digest(reinterpret_cast<const XXH3_state_t*>(state_))); }

}  // namespace ckpt::sys
