// What a base in Hugging Face layout holds and what is wrong with it: `crabcast base inspect`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "protocol/error.h"

namespace crabcast::model {

struct BaseInspection {
  struct Count {
    std::string name;  // of a part (text, audio, vision, head), or of a type (BF16)
    std::uint64_t tensors = 0, parameters = 0, bytes = 0;
  };
  struct AdapterSize {
    std::string scope;
    std::uint64_t modules = 0;
    std::int64_t parameters = 0;
  };

  std::filesystem::path folder;
  std::string model_type;
  ThinkerConfig config;
  std::size_t shards = 0;
  std::vector<Count> parts, types;
  std::vector<AdapterSize> adapters;  // of the published recipe: rank 128, 3 heads
  std::uint64_t skipped_tensors = 0, skipped_bytes = 0;  // of the talker and the vocoder
  std::string hash;                                      // empty where there are problems
  std::vector<std::string> problems;                     // why it cannot be a base
  std::vector<std::string> notes;

  [[nodiscard]] bool clean() const { return problems.empty(); }
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string json() const;
};

// `folder` may be a shipped base ("nano"). Reads all of the base, for its hash; `progress` hears of
// bytes done and of all bytes. not_found: there is no such folder. All else is in the report.
Result<BaseInspection> inspect_base(
    const std::filesystem::path& folder,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress = {});

}  // namespace crabcast::model
