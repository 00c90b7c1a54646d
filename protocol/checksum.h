// XXH3 checksums of what is sent and stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "protocol/records.pb.h"

namespace crabcast {

// Of a checkpoint; the last may be shorter. Small enough to stay in a core's cache while a chunk is
// hashed, checked, copied and written: with 4 MiB each of these waits for memory.
inline constexpr std::size_t kChunkBytes = 1ULL << 18;

std::uint64_t checksum64(std::span<const std::byte> bytes);

// XXH3-64 over several runs of bytes, as if they were one.
class Checksum64 {
 public:
  Checksum64();
  ~Checksum64();
  void add(std::span<const std::byte> bytes);
  [[nodiscard]] std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Size and XXH3-128 of a chunk, taken from the buffer that is its source (C-1).
pb::ChunkEntry make_chunk_entry(std::uint32_t index, std::span<const std::byte> bytes);

}  // namespace crabcast
