// The key space of a job's store (docs/storage-format.md). A letter is never used again for
// something else. Internal to storage/.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "protocol/ids.h"
#include "storage/encoding.h"
#include "storage/rocks.h"

namespace crabcast::storage {

inline constexpr StoreKind kJobStore = {.format = "crabcast job store 1", .has_chunks = true};

// Column family `default`; kFormatKey is "f".
enum class JobKey : char {
  event = 'e',       // + seq             -> pb::Event
  ledger = 'l',      // + step            -> pb::CommitRecord
  manifest = 'm',    // + checkpoint id   -> checksum, write number, pb::CheckpointManifest
  pin = 'p',         // + checkpoint id   -> pb::CheckpointPin
  quarantine = 'q',  // + data set, index -> pb::BadSample
  evaluation = 's',  // + checkpoint id   -> pb::EvaluationRecord
  value = 'v',       // + name            -> bytes
  damage = 'x',      // + checkpoint id   -> pb::CheckpointDamage
};

// Column family `chunk`: checkpoint id, write number, index of the chunk -> bytes of the chunk.
inline std::string chunk_key(CheckpointId id, std::uint64_t write, std::uint32_t index) {
  std::string key;
  append_u64(key, id.value());
  append_u64(key, write);
  append_u32(key, index);
  return key;
}
inline constexpr std::size_t kChunkKeyBytes = 20;

// Keys as people read them: "manifest/00000050", "chunk/00000050/00000003".
inline std::string text_of(const char* space, std::uint64_t number) {
  char text[64];
  std::snprintf(text, sizeof text, "%s/%08llu", space, static_cast<unsigned long long>(number));
  return text;
}
inline std::string text_of_chunk(CheckpointId id, std::uint32_t index) {
  return text_of(text_of("chunk", id.value()).c_str(), index);
}

}  // namespace crabcast::storage
