// One opened RocksDB database: its handles, opened and closed together. Internal to storage/.
#pragma once

#include <rocksdb/db.h>

#include <filesystem>
#include <memory>
#include <string_view>

#include "protocol/error.h"

namespace crabcast::storage {

// What kind of store a folder holds, and in which version of docs/storage-format.md.
struct StoreKind {
  std::string_view format;  // value of kFormatKey
  bool has_chunks = false;  // a second column family for checkpoint chunks
};

struct OpenMode {
  bool writable = true;
  // RocksDB refuses to open when any file is damaged. Without this check it opens, and reads of
  // the damaged file fail. Never for a writer: RocksDB would also go on after a failed write.
  bool strict = true;
  rocksdb::Env* env = nullptr;
};

class Database {
 public:
  static Result<std::unique_ptr<Database>> open(const std::filesystem::path& folder,
                                                const StoreKind& kind, const OpenMode& mode);
  // For writing. One damaged checkpoint must not keep the ledger and the older checkpoints away:
  // chunk files that cannot be opened are taken out; their manifests stay, so that `verify` reports
  // their chunks as missing. Damage in the records stays an error.
  static Result<std::unique_ptr<Database>> open_writer(const std::filesystem::path& folder,
                                                       const StoreKind& kind, rocksdb::Env* env);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  rocksdb::DB* operator->() const { return db_.get(); }
  [[nodiscard]] rocksdb::DB* get() const { return db_.get(); }
  [[nodiscard]] rocksdb::ColumnFamilyHandle* records() const { return records_; }
  [[nodiscard]] rocksdb::ColumnFamilyHandle* chunks() const { return chunks_; }
  [[nodiscard]] bool writable() const { return writable_; }

 private:
  Database() = default;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::ColumnFamilyHandle* records_ = nullptr;
  rocksdb::ColumnFamilyHandle* chunks_ = nullptr;  // null for a store without chunks
  bool writable_ = false;
};

}  // namespace crabcast::storage
