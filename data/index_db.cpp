#include "data/index_db.h"

#include <rocksdb/cache.h>
#include <rocksdb/table.h>

#include <cstdio>
#include <span>

#include "protocol/checksum.h"

namespace crabcast::data {
namespace {

constexpr std::size_t kWriteBufferBytes = 4ULL << 20;
constexpr std::size_t kBlockCacheBytes = 2ULL << 20;

rocksdb::Options small_options(DbUse use) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  rocksdb::Options options;
  options.create_if_missing = use == DbUse::create;
  options.write_buffer_size = kWriteBufferBytes;
  options.compression = rocksdb::kLZ4Compression;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.max_open_files = -1;  // a reader keeps the files that a new index replaces
  options.max_file_opening_threads = 1;
  options.skip_stats_update_on_db_open = true;
  options.max_background_jobs = 1;
  options.keep_log_file_num = 1;
  options.info_log_level = rocksdb::InfoLogLevel::ERROR_LEVEL;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

Error error_of(const rocksdb::Status& status, std::string_view context) {
  const std::string text = status.ToString();
  Errc code = Errc::io_error;
  if (status.IsNoSpace() || contains(text, "No space left"))
    code = Errc::disk_full;
  else if (status.IsCorruption())
    code = Errc::corrupt;
  else if (contains(text, "While lock file") || contains(text, "lock hold by current process"))
    code = Errc::already_exists;
  else if (status.IsNotFound() || status.IsPathNotFound() || contains(text, "does not exist"))
    code = Errc::not_found;
  else if (contains(text, "Permission denied") || contains(text, "Read-only file system"))
    code = Errc::permission_denied;
  else if (contains(text, "Too many open files") || status.IsMemoryLimit())
    code = Errc::resource_exhausted;
  return {code, std::string(context) + ": " + text};
}

std::string index_name(const std::filesystem::path& corpus) {
  const std::string path = corpus.string();
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx",
                static_cast<unsigned long long>(checksum64(std::as_bytes(std::span(path)))));
  return corpus.filename().string() + "-" + hash;
}

Result<std::unique_ptr<rocksdb::DB>> open_db(const std::filesystem::path& folder, DbUse use) {
  rocksdb::DB* db = nullptr;
  const auto options = small_options(use);
  const auto status = use == DbUse::read
                          ? rocksdb::DB::OpenForReadOnly(options, folder.string(), &db)
                          : rocksdb::DB::Open(options, folder.string(), &db);
  if (!status.ok()) return fail(error_of(status, "open " + folder.string()));
  return std::unique_ptr<rocksdb::DB>(db);
}

}  // namespace crabcast::data
