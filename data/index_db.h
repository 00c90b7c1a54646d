// RocksDB as the indexes of data/ use it: small, without a log, its errors as ours. Private to
// data/. Keys are one letter and numbers in big-endian order, as in docs/storage-format.md.
#pragma once

#include <rocksdb/db.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/error.h"

namespace crabcast::data {

// The one place where a RocksDB status becomes an Error.
Error error_of(const rocksdb::Status& status, std::string_view context);

enum class DbUse { create, write, read };
// create and write take RocksDB's lock of the folder: already_exists when another process has it.
// read takes none, makes no file, and sees what was written when it was opened.
Result<std::unique_ptr<rocksdb::DB>> open_db(const std::filesystem::path& folder, DbUse use);

// Name of what is kept of a corpus: that of its folder, and a hash of its whole path.
std::string index_name(const std::filesystem::path& corpus);

inline void append_number(std::string& out, std::uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift));
}

// `text` holds at least `bytes`.
inline std::uint64_t read_number(std::string_view text, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i)
    value = value << 8 | static_cast<unsigned char>(text[static_cast<std::size_t>(i)]);
  return value;
}

}  // namespace crabcast::data
