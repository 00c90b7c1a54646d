// The files of a base in Hugging Face layout: which one holds which tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/safetensors.h"
#include "protocol/error.h"

namespace crabcast::model {

struct BaseTensor {
  std::string name;  // published
  std::shared_ptr<const SafetensorsFile> file;
  SafetensorsFile::Entry entry;  // under the name that it has in the file

  [[nodiscard]] std::uint64_t bytes() const { return entry.end - entry.begin; }
};

struct BaseFiles {
  std::filesystem::path folder;
  std::string model_type;
  ThinkerConfig config;
  std::vector<BaseTensor> tensors;      // in the order of weight_shapes, but for missing ones
  std::optional<BaseTensor> tied_head;  // with tied embeddings: a head that is there all the same
  std::size_t shards = 0;
  std::uint64_t skipped_tensors = 0, skipped_bytes = 0;  // of the talker and the vocoder
  std::vector<Error> problems;                           // empty: a base that can be opened
};

// Of a folder: looks at config.json and at model.safetensors, or else at
// model.safetensors.index.json and the shards that it names; reads headers only. not_found: there
// is no such folder. All else, such as a tensor that is missing, left over, of another shape or in
// another shard, is a problem. Of a shipped base ("nano"): its file lies in the program itself.
Result<BaseFiles> find_base_files(const std::filesystem::path& base);

// The same, where problems are an error too: that of the first one, with the first twenty texts.
Result<BaseFiles> open_base_files(const std::filesystem::path& base);

}  // namespace crabcast::model
