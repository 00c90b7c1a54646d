// The media half of an inspection: lengths, and clips that are copies of one another. Private to
// data/.
#pragma once

#include <string>
#include <vector>

#include "data/inspect.h"

namespace crabcast::data {

// One clip of one row.
struct ClipFile {
  std::filesystem::path path;
  std::size_t inspection = 0;  // index in CorpusInspection::datasets
  Split split{};
  std::string file;  // the JSON file that names it
  std::uint64_t line = 0;
};

inline constexpr std::uint64_t kListedProblems = 5;  // of one kind in one data set

// Each path once, in the order of the rows.
void inspect_media(const std::vector<ClipFile>& clips, const InspectOptions& options,
                   std::vector<DatasetInspection>& datasets);

}  // namespace crabcast::data
