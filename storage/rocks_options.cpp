#include "storage/rocks_options.h"

#include <rocksdb/cache.h>
#include <rocksdb/listener.h>
#include <rocksdb/table.h>

#include <string>

namespace crabcast::storage {
namespace {

// These stores live in small processes: 2 + 2 MiB of write buffers and 2 MiB of cache at most.
constexpr std::size_t kWriteBufferBytes = 2ULL << 20;
constexpr std::size_t kBlockCacheBytes = 2ULL << 20;
constexpr std::uint64_t kWalBytes = 8ULL << 20;

// RocksDB 7.8 must not resume by itself after a write failed: it then takes in chunk files under
// file number 0, and goes on with a log that may end in half a record. Rocks opens the database
// again instead. A failed compaction hurts no write, so that one may be tried again.
class NoUnseenResume : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status error,
                            bool* resume) override {
    if (error.severity() >= rocksdb::Status::Severity::kHardError) *resume = false;
  }
};

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

Error error_of(const rocksdb::Status& status, std::string_view context) {
  const std::string text = status.ToString();
  Errc code = Errc::io_error;
  if (status.IsNoSpace() || contains(text, "No space left")) {
    code = Errc::disk_full;
  } else if (status.IsCorruption()) {
    code = Errc::corrupt;
  } else if (contains(text, "While lock file") || contains(text, "lock hold by current process")) {
    code = Errc::already_exists;
  } else if (status.IsNotFound() || status.IsPathNotFound()) {
    code = Errc::not_found;
  } else if (contains(text, "Permission denied") || contains(text, "Read-only file system")) {
    code = Errc::permission_denied;
  } else if (contains(text, "Too many open files") || status.IsMemoryLimit()) {
    code = Errc::resource_exhausted;
  } else if (status.IsInvalidArgument()) {
    code = Errc::invalid_argument;
  } else if (status.IsNotSupported()) {
    code = Errc::unsupported;
  } else if (status.IsTimedOut()) {
    code = Errc::timeout;
  } else if (status.IsBusy() || status.IsTryAgain()) {
    code = Errc::unavailable;
  }
  return {code, std::string(context) + ": " + text};
}

rocksdb::DBOptions database_options(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // After power loss the log may end in the middle of a record that nobody acknowledged: everything
  // before it counts, nothing after it.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_total_wal_size = kWalBytes;
  options.db_write_buffer_size = 2 * kWriteBufferBytes;
  options.max_background_jobs = 2;
  // Few files; and a reader keeps the files that a writer drops.
  options.max_open_files = -1;
  options.skip_stats_update_on_db_open = true;  // no chunk is read to open the store
  // Starts writing to the disk while a checkpoint still streams in.
  options.bytes_per_sync = 4ULL << 20;
  // Chunks are read one after another: let the kernel read ahead.
  options.advise_random_on_open = false;
  options.manifest_preallocation_size = 64ULL << 10;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 1ULL << 20;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.max_bgerror_resume_count = 0;
  options.listeners.push_back(std::make_shared<NoUnseenResume>());
  return options;
}

rocksdb::ColumnFamilyOptions record_options() {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = kWriteBufferBytes;
  options.max_write_buffer_number = 2;
  options.compression = rocksdb::kLZ4Compression;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// Chunks are written once, read once in a while and dropped as whole files: no compression (tensor
// bytes do not compress), no compaction, no cache.
rocksdb::ColumnFamilyOptions chunk_options() {
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = 64ULL << 10;
  options.compression = rocksdb::kNoCompression;
  options.disable_auto_compactions = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace crabcast::storage
