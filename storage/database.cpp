#include "storage/database.h"

#include <rocksdb/convenience.h>
#include <rocksdb/sst_file_reader.h>

#include "storage/rocks_options.h"

namespace crabcast::storage {
namespace {

constexpr const char* kChunkFamily = "chunk";

// Files whose footer or index cannot be read, and files that are gone. A file is also gone when
// RocksDB could not make the taking in of it durable: it then deletes the file, though its list of
// files may name it already.
Status drop_unreadable_chunk_files(const std::filesystem::path& folder, const StoreKind& kind,
                                   rocksdb::Env* env) {
  const auto database = Database::open(folder, kind, {.strict = false, .env = env});
  if (!database) return fail(database.error());
  const Database& db = **database;
  rocksdb::ColumnFamilyMetaData files;
  db->GetColumnFamilyMetaData(db.chunks(), &files);
  for (const rocksdb::LevelMetaData& level : files.levels) {
    for (const rocksdb::SstFileMetaData& file : level.files) {
      const std::filesystem::path path = folder / file.relative_filename;
      std::error_code missing;
      const bool whole = std::filesystem::file_size(path, missing) == file.size;
      rocksdb::SstFileReader reader(rocksdb::Options(database_options(env), chunk_options()));
      if (whole && reader.Open(path.string()).ok()) continue;
      const rocksdb::Slice first(file.smallestkey);
      const rocksdb::Slice last(file.largestkey);
      const auto status = rocksdb::DeleteFilesInRange(db.get(), db.chunks(), &first, &last);
      if (!status.ok()) return fail(error_of(status, "take out " + path.string()));
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& folder,
                                                 const StoreKind& kind, const OpenMode& mode) {
  rocksdb::DBOptions options = database_options(mode.env);
  options.paranoid_checks = mode.strict;
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  families.emplace_back(rocksdb::kDefaultColumnFamilyName, record_options());
  if (kind.has_chunks) families.emplace_back(kChunkFamily, chunk_options());
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      mode.writable
          ? rocksdb::DB::Open(options, folder.string(), families, &handles, &db)
          : rocksdb::DB::OpenForReadOnly(options, folder.string(), families, &handles, &db);
  if (!status.ok()) {
    Error error = error_of(status, "open the store in " + folder.string());
    if (error.code == Errc::already_exists) error.message += " (another process has it open)";
    return fail(std::move(error));
  }
  std::unique_ptr<Database> database(new Database);
  database->db_.reset(db);
  database->records_ = handles[0];
  if (kind.has_chunks) database->chunks_ = handles[1];
  database->writable_ = mode.writable;
  return database;
}

Result<std::unique_ptr<Database>> Database::open_writer(const std::filesystem::path& folder,
                                                        const StoreKind& kind, rocksdb::Env* env) {
  auto database = open(folder, kind, {.env = env});
  const bool damaged = !database && (database.error().code == Errc::corrupt ||
                                     database.error().code == Errc::not_found);
  if (!damaged || !kind.has_chunks) return database;
  CRABCAST_TRY(drop_unreadable_chunk_files(folder, kind, env));
  return open(folder, kind, {.env = env});
}

Database::~Database() {
  for (auto* family : {chunks_, records_})
    if (family != nullptr) db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
  // Every acknowledged write is in the log already: what Close could report changes nothing.
  db_->Close().PermitUncheckedError();
}

}  // namespace crabcast::storage
