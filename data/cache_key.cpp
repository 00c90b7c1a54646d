#include "data/cache_key.h"

#include <xxhash.h>

namespace crabcast::data {

std::string CacheKey::bytes() const {
  std::string out(16, '\0');
  for (int i = 0; i < 8; ++i) {
    out[static_cast<std::size_t>(i)] = static_cast<char>(high >> (56 - 8 * i));
    out[static_cast<std::size_t>(8 + i)] = static_cast<char>(low >> (56 - 8 * i));
  }
  return out;
}

struct CacheKeyHasher::State {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> xxh3{XXH3_createState(), XXH3_freeState};
};

CacheKeyHasher::CacheKeyHasher() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(state_->xxh3.get());
}

CacheKeyHasher::~CacheKeyHasher() = default;

CacheKeyHasher& CacheKeyHasher::add(std::string_view field) {
  add(field.size());
  add_bytes(field.data(), field.size());
  return *this;
}

CacheKeyHasher& CacheKeyHasher::add(std::uint64_t field) {
  add_bytes(&field, sizeof field);
  return *this;
}

void CacheKeyHasher::add_bytes(const void* data, std::size_t size) {
  XXH3_128bits_update(state_->xxh3.get(), data, size);
}

CacheKey CacheKeyHasher::key() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh3.get());
  return {hash.high64, hash.low64};
}

}  // namespace crabcast::data
