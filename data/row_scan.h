// A train.json or test.json: an array of objects, read row by row in one pass. Private to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "protocol/descriptor.h"
#include "protocol/error.h"

namespace crabcast::data {

// One object of the array, as it stands in the file.
struct RowText {
  std::uint64_t begin = 0;  // byte of the file
  std::uint64_t line = 0;   // where it begins, from 1
  std::uint64_t column = 0;
  std::string_view text;
};

// Longer rows are refused: whatever such a file is, it is no list of samples.
inline constexpr std::uint64_t kMaxRowBytes = 16ULL << 20;

// Calls `visit` for each row, in order; an error of it ends the scan. Memory: one row. Only
// brackets and quotes are looked at here, so a row may still be broken inside: see check_row.
// data_error "FILE:LINE:COLUMN: ..." when the file is no array of objects; not_found when there is
// no file.
Status scan_rows(const std::filesystem::path& path,
                 const std::function<Status(const RowText&)>& visit);
// The same of an open regular file, from its beginning; the path is for messages.
Status scan_rows(int descriptor, const std::filesystem::path& path,
                 const std::function<Status(const RowText&)>& visit);

// data_error "FILE:LINE:COLUMN: broken JSON: ..." when the row is not valid JSON.
Status check_row(const std::filesystem::path& path, const RowText& row);

// Whole or an error: pread until all bytes are there. data_error when the file is shorter.
Status read_exactly(int descriptor, char* to, std::size_t size, std::uint64_t from,
                    const std::filesystem::path& path);

// Opens a regular file for reading; a FIFO or a device is data_error.
Result<Descriptor> open_regular(const std::filesystem::path& path);

}  // namespace crabcast::data
