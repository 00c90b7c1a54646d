// Copies a checked base into a node's folder of bases: `crabcast base import`.
//
//     BASES/NAME/config.json, tokenizer.json            as they were
//     BASES/NAME/model-00001-of-00005.safetensors ...   at most 4 GiB each, published names
//     BASES/NAME/model.safetensors.index.json
//
// The talker and the vocoder are left out. In these files tensors are aligned so that all processes
// of a node can share one map of them (safetensors.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

struct ImportOptions {
  std::filesystem::path source;   // a folder in Hugging Face layout
  std::filesystem::path bases;    // made when it is not there
  std::string name;               // check_base_name
  std::optional<Precision> type;  // what to convert to; nothing: the types stay
  std::uint64_t shard_bytes = 4ULL << 30;
};

struct ImportedBase {
  std::filesystem::path folder;
  std::string hash;  // another one than the source's where types were converted
  std::uint64_t tensors = 0, bytes = 0;
  std::size_t shards = 0;
};

// Writes beside BASES/NAME, reads everything back, compares the hashes, and only then gives it its
// name: the base is there as a whole or not at all, after a power loss too. What a killed import
// left behind is removed by the next one. Holds one tensor in memory. `progress` hears of bytes
// written and read back, and of the sum of both.
// already_exists: there is a base of that name, or another process imports one at this moment.
Result<ImportedBase> import_base(
    const ImportOptions& options,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress = {});

}  // namespace crabcast::model
