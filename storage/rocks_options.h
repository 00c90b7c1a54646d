// RocksDB's options and errors, as both stores use them. Internal to storage/.
#pragma once

#include <rocksdb/options.h>
#include <rocksdb/status.h>

#include <string_view>

#include "protocol/error.h"

namespace crabcast::storage {

// The one place where a RocksDB status becomes an Error.
Error error_of(const rocksdb::Status& status, std::string_view context);

// `env` is the seam to the disk; nullptr for the real one.
rocksdb::DBOptions database_options(rocksdb::Env* env);
// Column family of all records but chunks.
rocksdb::ColumnFamilyOptions record_options();
// Column family of checkpoint chunks, which are written as whole files.
rocksdb::ColumnFamilyOptions chunk_options();

}  // namespace crabcast::storage
