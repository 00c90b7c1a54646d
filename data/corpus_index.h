// The index of a corpus: where each row of each JSON file begins, in a RocksDB database that is
// built once and read in milliseconds after that (docs/corpus.md, "The index"). Private to data/.
//
// Place: CACHE/NAME-HASH, named after the corpus folder and a hash of its path; the corpus itself
// is never written to. Several processes may open it at once: one builds it under
// CACHE/NAME-HASH.lock, in a folder beside it that is renamed when all of it is on disk, and the
// others wait. Whatever interrupts that leaves nothing that is taken for an index.
//
// Size and modification time of every JSON file are compared with those of the index at each
// opening. When one differs, or the index is damaged or of another format, it is built again, and
// the log says why. Memory: a block cache of 2 MiB, whatever the number of rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "data/datasets.h"
#include "protocol/error.h"

namespace crabcast::data {

enum class JsonFile { train, test };

// What the index knows of one train.json or test.json.
struct IndexedFile {
  std::filesystem::path path;
  std::uint64_t rows = 0;
  std::uint64_t hash = 0;        // XXH3 of the rows' XXH3
  std::optional<Error> problem;  // it cannot be used: "FILE:LINE:COLUMN: ..."
};

// Thread-safe: const after open.
class CorpusIndex {
 public:
  // `corpus` exists. disk_full, permission_denied or io_error name the file; timeout when another
  // process builds it for too long. Broken JSON files are no error here: see IndexedFile.
  // `progress` is called again and again while it is built, or waited for.
  static Result<std::unique_ptr<CorpusIndex>> open(const std::filesystem::path& corpus,
                                                   const std::filesystem::path& cache,
                                                   const std::function<void()>& progress = {});
  virtual ~CorpusIndex() = default;
  // Null when the corpus has no such file.
  [[nodiscard]] virtual const IndexedFile* file(DatasetRow dataset, JsonFile which) const = 0;
  // Reads the row from its file. data_error when the file was changed since it was opened.
  [[nodiscard]] virtual Result<nlohmann::json> row(DatasetRow dataset, JsonFile which,
                                                   std::uint64_t index) const = 0;
  // The line on which a row begins, from 1; 0 when the file cannot be read any more. Reads the file
  // up to there.
  [[nodiscard]] virtual std::uint64_t line(DatasetRow dataset, JsonFile which,
                                           std::uint64_t index) const = 0;
};

}  // namespace crabcast::data
