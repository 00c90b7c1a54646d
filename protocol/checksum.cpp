#include "protocol/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace crabcast {

struct Checksum64::State {
  XXH3_state_t xxh;
};

std::uint64_t checksum64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

Checksum64::Checksum64() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(&state_->xxh);
}
Checksum64::~Checksum64() = default;

void Checksum64::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}

std::uint64_t Checksum64::value() const {
  return XXH3_64bits_digest(&state_->xxh);
}

pb::ChunkEntry make_chunk_entry(std::uint32_t index, std::span<const std::byte> bytes) {
  const auto hash = XXH3_128bits(bytes.data(), bytes.size());
  pb::ChunkEntry entry;
  entry.set_index(index);
  entry.set_bytes(static_cast<std::uint32_t>(bytes.size()));
  entry.set_xxh3_high(hash.high64);
  entry.set_xxh3_low(hash.low64);
  return entry;
}

}  // namespace crabcast
