// A train.json or test.json: an array of objects, read row by row. Private to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "protocol/error.h"

namespace crabcast::data {

// Keeps where each row begins and a checksum of it, not the rows: 16 bytes a row. Rows are read
// from the file again when they are asked for. Thread-safe: const after open.
class RowFile {
 public:
  // data_error "FILE:LINE:COLUMN: ..." when the file is not valid JSON or not an array of objects;
  // not_found when there is no file.
  static Result<RowFile> open(const std::filesystem::path& path);
  RowFile(RowFile&& other) noexcept;
  RowFile& operator=(RowFile&&) = delete;
  ~RowFile();

  [[nodiscard]] std::uint64_t size() const { return rows_.size(); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  // XXH3 of all rows.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  // data_error when the file was changed since it was opened.
  [[nodiscard]] Result<nlohmann::json> row(std::uint64_t index) const;
  // The line on which a row begins, from 1; 0 when the file cannot be read any more. Reads the file
  // up to there.
  [[nodiscard]] std::uint64_t line(std::uint64_t index) const;

 private:
  struct Row {
    std::uint64_t begin = 0;
    std::uint32_t length = 0;
    std::uint32_t check = 0;  // low half of the row's XXH3
  };

  RowFile(std::filesystem::path path, int descriptor);
  Status find_rows(const std::string& text);

  std::filesystem::path path_;
  int descriptor_;
  std::vector<Row> rows_;
  std::uint64_t hash_ = 0;
};

}  // namespace crabcast::data
