// A temporary folder and a rendered corpus for the tests of the synthetic corpus.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <ranges>
#include <string>

#include "data/datasets.h"
#include "data/synth.h"
#include "tests/support/temporary_folder.h"

namespace crabcast::data {

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Those that a corpus has unless more is asked for.
inline auto usual_datasets() {
  return datasets() | std::views::filter([](const Dataset& set) { return !is_optional(set.task); });
}
inline constexpr std::size_t kUsualDatasets = 17;

// Every file below a folder, by its path in it.
inline std::map<std::string, std::string> all_files(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[std::filesystem::relative(entry.path(), folder).string()] = contents(entry.path());
  return files;
}

inline constexpr SyntheticCorpus kTestCorpus{.seed = 11, .samples_per_dataset = 8};

// Rendered once for the whole program.
inline const std::filesystem::path& rendered_corpus() {
  static const testing::TemporaryFolder scratch;
  static const std::filesystem::path folder = [] {
    const auto made = ensure_synthetic(kTestCorpus, scratch.path(), 2, {});
    if (!made) ADD_FAILURE() << made.error().message;
    return made.value_or(scratch.path() / "failed");
  }();
  return folder;
}

inline nlohmann::ordered_json rows_of(const Dataset& set, const std::string& split) {
  const auto path = rendered_corpus() / set.id / (split + ".json");
  return nlohmann::ordered_json::parse(contents(path));
}

}  // namespace crabcast::data
