#include "storage/rocks.h"

#include <fcntl.h>
#include <rocksdb/convenience.h>
#include <rocksdb/file_system.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "storage/files.h"
#include "storage/rocks_options.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;

constexpr int kReadOnlyAttempts = 100;
constexpr std::chrono::seconds kReopenWait{10};

rocksdb::Slice slice(std::string_view text) {
  return {text.data(), text.size()};
}

// What changes whenever a write could make a reader see only half of it: the names of all files,
// and the length of RocksDB's list of files.
Result<std::vector<std::string>> picture_of(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename();
    if (name.starts_with("LOG") || name == "LOCK") continue;
    if (name.starts_with("MANIFEST-")) {
      std::error_code gone;  // then its name is missing from the next picture
      name += " " + std::to_string(fs::file_size(it->path(), gone));
    }
    names.push_back(std::move(name));
  }
  if (error) return fail(error_from_errno(error.value(), "list " + folder.string()));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Rocks::Use::Use(const Rocks& rocks) : rocks_(&rocks) {
  const std::scoped_lock lock(rocks.mutex_);
  ++rocks.users_;
  opening_ = rocks.opening_;
}

Rocks::Use::~Use() {
  if (rocks_ == nullptr) return;
  const std::scoped_lock lock(rocks_->mutex_);
  if (--rocks_->users_ == 0) rocks_->idle_.notify_all();
}

Result<std::shared_ptr<Rocks>> Rocks::open(const fs::path& folder, const StoreKind& kind,
                                           rocksdb::Env* env) {
  CRABCAST_TRY(make_folder(folder));
  auto database = Database::open_writer(folder, kind, env);
  if (!database) return fail(database.error());
  std::shared_ptr<Rocks> rocks(new Rocks(folder, kind, env, /*read_only=*/false));
  rocks->database_ = std::move(*database);
  CRABCAST_TRY(rocks->check_format());
  if (kind.has_chunks) CRABCAST_TRY(rocks->clear_incoming());
  return rocks;
}

// A writer may add and delete files while they are being opened here. What was opened is one moment
// of the store if nothing changed in between; otherwise it is opened once more.
Result<std::shared_ptr<Rocks>> Rocks::open_read_only(const fs::path& folder,
                                                     const StoreKind& kind) {
  std::error_code error;
  if (!fs::exists(folder / "CURRENT", error))
    return fail(Errc::not_found, "there is no store in " + folder.string());
  for (int attempt = 0; attempt < kReadOnlyAttempts; ++attempt) {
    const auto before = picture_of(folder);
    if (!before) return fail(before.error());
    auto database = Database::open(folder, kind, {.writable = false});
    const auto after = picture_of(folder);
    if (!after) return fail(after.error());
    if (*before != *after) continue;
    // Nothing moved and it still fails: a damaged file. Without the check each read says what is
    // damaged, so that `verify` can name it.
    if (!database) database = Database::open(folder, kind, {.writable = false, .strict = false});
    if (!database) return fail(database.error());
    std::shared_ptr<Rocks> rocks(new Rocks(folder, kind, nullptr, /*read_only=*/true));
    rocks->database_ = std::move(*database);
    CRABCAST_TRY(rocks->check_format());
    return rocks;
  }
  return fail(Errc::unavailable, "the store in " + folder.string() +
                                     " changed each time it was opened for reading; try again");
}

Status Rocks::check_format() {
  auto format = get(kFormatKey);
  if (!format) return fail(format.error());
  if (*format == kind_.format) return {};
  if (format->has_value()) {
    return fail(Errc::unsupported, folder_.string() + " holds \"" + **format +
                                       "\", and this program reads \"" + std::string(kind_.format) +
                                       "\"");
  }
  if (read_only_)
    return fail(Errc::not_found, "the store in " + folder_.string() + " is not set up yet");
  bool empty = true;
  CRABCAST_TRY(scan("", "\xff", [&empty](std::string_view, std::string_view) {
    empty = false;
    return false;
  }));
  if (!empty)
    return fail(Errc::unsupported, folder_.string() + " holds a database of another program");
  return put(kFormatKey, kind_.format, Sync::yes);
}

// Files of checkpoints that were being written when the process died.
Status Rocks::clear_incoming() {
  CRABCAST_TRY(make_folder(incoming()));
  std::error_code error;
  for (fs::directory_iterator it(incoming(), error), end; !error && it != end; it.increment(error))
    CRABCAST_TRY(remove_file(it->path()));
  if (error) return fail(error_from_errno(error.value(), "list " + incoming().string()));
  return {};
}

Status Rocks::refuse_if_read_only() const {
  if (!read_only_) return {};
  return fail(Errc::permission_denied,
              "the store in " + folder_.string() + " was opened for reading only");
}

Status Rocks::attempt(const Operation& operation, std::string_view what) {
  CRABCAST_TRY(refuse_if_read_only());
  std::uint64_t opening = 0;
  const auto once = [&] {
    const Use db(*this);
    opening = db.opening();
    // Opened for reading only: the disk was full.
    return db->writable() ? operation(*db) : rocksdb::Status::IOError("it cannot be written now");
  };
  rocksdb::Status status = once();
  if (status.IsIOError()) {
    CRABCAST_TRY(reopen(opening));
    status = once();
  }
  if (!status.ok()) return fail(error(status, what));
  return {};
}

Status Rocks::reopen(std::uint64_t failed_opening) {
  std::unique_lock lock(mutex_);
  if (!idle_.wait_for(lock, kReopenWait, [this] { return users_ == 0; })) {
    return fail(Errc::unavailable, folder_.string() +
                                       ": a write failed, and the store is in use for too long to "
                                       "be opened again; try again");
  }
  if (opening_ != failed_opening) return {};  // another thread was faster
  if (database_->writable()) {
    rocksdb::CancelAllBackgroundWork(database_->get(), /*wait=*/true);
    auto reader = Database::open(folder_, kind_, {.writable = false, .strict = false, .env = env_});
    if (!reader) return fail(reader.error());
    database_ = std::move(*reader);  // closes the writer, which gives its lock back
    ++opening_;
  }
  auto writer = Database::open_writer(folder_, kind_, env_);
  if (!writer) return fail(writer.error());
  database_ = std::move(*writer);
  ++opening_;
  return {};
}

rocksdb::Env* Rocks::env() const {
  return env_ != nullptr ? env_ : rocksdb::Env::Default();
}

Error Rocks::error(const rocksdb::Status& status, std::string_view what) const {
  return error_of(status, folder_.string() + ": " + std::string(what));
}

Status Rocks::write(rocksdb::WriteBatch& batch, Sync sync) {
  rocksdb::WriteOptions options;
  options.sync = sync == Sync::yes;
  return attempt([&](const Database& db) { return db->Write(options, &batch); }, "write");
}

Status Rocks::put(std::string_view key, std::string_view value, Sync sync) {
  rocksdb::WriteBatch batch;
  if (auto status = batch.Put(slice(key), slice(value)); !status.ok())
    return fail(error(status, "write"));
  return write(batch, sync);
}

Result<std::optional<std::string>> Rocks::get(std::string_view key) const {
  const Use db(*this);
  std::string value;
  const rocksdb::Status status = (*db)->Get({}, db->records(), slice(key), &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return fail(error(status, "read"));
  return std::optional<std::string>(std::move(value));
}

Status Rocks::scan(const std::string& from, const std::string& until, const Visit& visit) const {
  const Use db(*this);
  const rocksdb::Slice end(until);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &end;
  const std::unique_ptr<rocksdb::Iterator> it((*db)->NewIterator(options, db->records()));
  for (it->Seek(from); it->Valid(); it->Next())
    if (!visit(it->key().ToStringView(), it->value().ToStringView())) break;
  if (!it->status().ok()) return fail(error(it->status(), "read"));
  return {};
}

Result<std::optional<std::pair<std::string, std::string>>> Rocks::last(
    const std::string& from, const std::string& until) const {
  const Use db(*this);
  const std::unique_ptr<rocksdb::Iterator> it((*db)->NewIterator({}, db->records()));
  it->SeekForPrev(until);
  // `until` itself belongs to the next key space.
  if (it->Valid() && it->key() == rocksdb::Slice(until)) it->Prev();
  if (!it->status().ok()) return fail(error(it->status(), "read"));
  std::optional<std::pair<std::string, std::string>> found;
  if (it->Valid() && it->key().compare(from) >= 0)
    found.emplace(it->key().ToString(), it->value().ToString());
  return found;
}

Result<Rocks::Chunk> Rocks::chunk(std::string_view key) const {
  Chunk chunk{Use(*this)};
  const rocksdb::Status status =
      (*chunk.use_)->Get({}, chunk.use_->chunks(), slice(key), &chunk.value_);
  if (!status.ok()) return fail(error_of(status, "read"));
  return chunk;
}

Result<std::unique_ptr<rocksdb::SstFileWriter>> Rocks::new_chunk_file(const fs::path& file) {
  CRABCAST_TRY(refuse_if_read_only());
  const rocksdb::Options options(database_options(env_), chunk_options());
  // The pages stay cached: the evaluator and the check of the newest checkpoint read them soon.
  constexpr bool kInvalidatePageCache = false;
  auto writer = std::make_unique<rocksdb::SstFileWriter>(rocksdb::EnvOptions(options), options,
                                                         nullptr, kInvalidatePageCache);
  const rocksdb::Status status = writer->Open(file.string());
  if (!status.ok()) return fail(error(status, "start a checkpoint file"));
  return writer;
}

Status Rocks::ingest(const fs::path& file) {
  rocksdb::IngestExternalFileOptions options;
  options.move_files = true;
  options.failed_move_fall_back_to_copy = false;
  options.write_global_seqno = false;
  // drop_chunks deletes whole files, which RocksDB does below level 0 only.
  options.fail_if_not_bottommost_level = true;
  const auto ingest_file = [&](const Database& db) {
    return db->IngestExternalFile(db.chunks(), {file.string()}, options);
  };
  return attempt(ingest_file, "take in a checkpoint file");
}

std::vector<Rocks::ChunkFile> Rocks::chunk_files() const {
  const Use db(*this);
  rocksdb::ColumnFamilyMetaData files;
  (*db)->GetColumnFamilyMetaData(db->chunks(), &files);
  std::vector<ChunkFile> found;
  for (const rocksdb::LevelMetaData& level : files.levels)
    for (const rocksdb::SstFileMetaData& file : level.files)
      found.push_back({file.smallestkey, file.size, file.relative_filename});
  return found;
}

Status Rocks::drop_chunks(const std::string& first, const std::string& last) {
  const rocksdb::Slice begin(first);
  const rocksdb::Slice end(last);
  const auto drop_files = [&](const Database& db) {
    return rocksdb::DeleteFilesInRange(db.get(), db.chunks(), &begin, &end);
  };
  CRABCAST_TRY(attempt(drop_files, "drop chunks"));
  for (const ChunkFile& file : chunk_files()) {
    if (file.first_key < first || file.first_key > last) continue;
    return fail(Errc::internal, folder_.string() + ": a file of dropped chunks is still there");
  }
  return {};
}

void Rocks::evict(const std::string& first, const std::string& last) const {
  for (const ChunkFile& file : chunk_files()) {
    if (file.first_key < first || file.first_key > last) continue;
    const int descriptor = ::open((folder_ / file.name).c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) continue;  // reading it will say what is wrong
    (void)::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    ::close(descriptor);
  }
}

Status Rocks::compact() {
  const auto compact_records = [](const Database& db) {
    rocksdb::CompactRangeOptions options;
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    return db->CompactRange(options, db.records(), nullptr, nullptr);
  };
  return attempt(compact_records, "compact");
}

Status Rocks::check_room(std::uint64_t bytes) const {
  std::uint64_t free = 0;
  const rocksdb::IOStatus status =
      env()->GetFileSystem()->GetFreeSpace(folder_.string(), {}, &free, nullptr);
  if (!status.ok()) return fail(error(status, "ask for the free room"));
  if (free >= bytes + kRoomForLedger) return {};
  return fail(Errc::disk_full,
              "a checkpoint chunk of " + std::to_string(bytes) + " bytes does not fit into " +
                  folder_.string() + ": " + std::to_string(free) + " bytes are free and " +
                  std::to_string(kRoomForLedger) + " stay reserved for the ledger; free some room");
}

Status Rocks::remove_file(const fs::path& file) {
  const rocksdb::Status status = env()->DeleteFile(file.string());
  if (status.ok() || status.IsNotFound() || status.IsPathNotFound()) return {};
  return fail(error(status, "delete " + file.filename().string()));
}

}  // namespace crabcast::storage
