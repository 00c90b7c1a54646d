// One JSON row to one sample (docs/corpus.md says what each field holds). Private to data/.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/corpus.h"
#include "protocol/error.h"

namespace crabcast::data {

enum class RowFields { train, test };  // which file, and so which fields, a row comes from

struct RowPlace {
  DatasetRow dataset = 0;
  RowFields fields{};
  Split split{};
  std::uint64_t index = 0;    // in the split
  std::uint64_t wording = 0;  // chooses among the paraphrases of the instruction
};

// Fills all of a sample but nothing from media files; masks belong to test samples, whichever file
// holds their row. data_error names the field: missing, of the wrong kind, or a relative path that
// leads out of `corpus`.
Result<Sample> sample_of_row(const nlohmann::json& row, const RowPlace& place,
                             const std::filesystem::path& corpus);

}  // namespace crabcast::data
