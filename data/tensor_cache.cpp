#include "data/tensor_cache.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "data/cache_entry.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSmallest = 1ULL << 20;
constexpr std::uint64_t kFilesInLimit = 16;  // how finely the oldest part can be dropped
constexpr std::uint64_t kLargestFile = 64ULL << 20;
constexpr std::size_t kBlockCache = 32ULL << 20;

class Silent final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

std::uint64_t file_bytes(std::uint64_t limit) {
  return std::clamp(limit / kFilesInLimit, kSmallest / kFilesInLimit, kLargestFile);
}

rocksdb::Options store_options(std::uint64_t limit) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.info_log = std::make_shared<Silent>();
  options.compression = rocksdb::kNoCompression;
  options.compaction_style = rocksdb::kCompactionStyleFIFO;
  options.compaction_options_fifo.max_table_files_size = limit;
  options.compaction_options_fifo.allow_compaction = false;
  options.num_levels = 1;
  options.write_buffer_size = file_bytes(limit);
  options.max_open_files = -1;  // secondary instances ask for it
  options.level0_slowdown_writes_trigger = options.level0_stop_writes_trigger = 1 << 30;
  rocksdb::BlockBasedTableOptions table;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  // A large entry begins a block of its own; whoever looks for a small one would have to read both.
  table.block_size_deviation = 99;
  // A value that was read stays where RocksDB read it, as long as somebody looks at it.
  table.block_cache = rocksdb::NewLRUCache(kBlockCache);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

Error store_error(const rocksdb::Status& status, const fs::path& folder) {
  const Errc code = status.IsNoSpace()      ? Errc::disk_full
                    : status.IsCorruption() ? Errc::corrupt
                                            : Errc::io_error;
  return {code, "the cache in " + folder.string() + ": " + status.ToString()};
}

// An entry where RocksDB read it. The store outlives the value.
struct Pinned {
  std::shared_ptr<rocksdb::DB> db;
  rocksdb::PinnableSlice value;
};

}  // namespace

// ---- Opening ------------------------------------------------------------------------------------

TensorCache::TensorCache(TensorCacheOptions options) : options_(std::move(options)) {}

TensorCache::~TensorCache() {
  (void)flush();  // what cannot be kept is decoded again
  std::error_code ignored;
  if (!reader_folder_.empty()) fs::remove_all(reader_folder_, ignored);
}

Result<std::unique_ptr<TensorCache>> TensorCache::open(const TensorCacheOptions& options) {
  if (options.bytes < kSmallest)
    return fail(Errc::invalid_argument,
                "a cache needs at least 1 MiB, not " + std::to_string(options.bytes) + " bytes");
  std::unique_ptr<TensorCache> cache(new TensorCache(options));
  CRABCAST_TRY(make_folder(cache->inbox()));
  CRABCAST_TRY(cache->take_place());
  return cache;
}

// As the owner where that place is free, and else as a reader.
Status TensorCache::take_place() {
  auto place = FileLock::try_acquire(options_.folder / "owner.lock");
  if (!place) return fail(place.error());
  if (!*place) return open_as_reader();
  return open_as_owner(std::move(**place));
}

Status TensorCache::open_as_owner(FileLock place) {
  const fs::path store = options_.folder / "store";
  const rocksdb::Options options = store_options(options_.bytes);
  rocksdb::DB* raw = nullptr;
  rocksdb::Status opened = rocksdb::DB::Open(options, store.string(), &raw);
  bool emptied = false;
  if (opened.IsCorruption() || opened.IsInvalidArgument()) {
    const std::string why = opened.ToString();
    rocksdb::Status gone = rocksdb::DestroyDB(store.string(), options);
    opened = gone.ok() ? rocksdb::DB::Open(options, store.string(), &raw) : gone;
    emptied = true;
    spdlog::warn("the cache in {} could not be read and begins anew: {}", options_.folder.string(),
                 why);
  }
  if (!opened.ok()) return fail(store_error(opened, options_.folder));
  Database db(raw);
  take_in_inbox(*db);
  measure(*db);
  std::lock_guard lock(mutex_);
  db_ = std::move(db);
  place_.emplace(std::move(place));
  emptied_ = emptied;
  return {};
}

// A store that the owner has not finished making is not there yet: then nothing is found for now.
Status TensorCache::open_as_reader() {
  static std::atomic<std::uint64_t> count = 0;
  if (reader_folder_.empty())
    reader_folder_ =
        options_.folder / "readers" / (std::to_string(::getpid()) + "-" + std::to_string(++count));
  CRABCAST_TRY(make_folder(reader_folder_));
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status opened = rocksdb::DB::OpenAsSecondary(
      store_options(options_.bytes), (options_.folder / "store").string(), reader_folder_, &raw);
  if (!opened.ok()) return {};
  Database db(raw);
  measure(*db);
  std::lock_guard lock(mutex_);
  db_ = std::move(db);
  return {};
}

// ---- Looking around -----------------------------------------------------------------------------

void TensorCache::look() {
  const TimePoint now = Clock::now();
  Database db;
  bool owner = false;
  {
    std::lock_guard lock(mutex_);
    if (now < next_look_) return;
    next_look_ = now + options_.look_every;
    db = db_;
    owner = place_.has_value();
  }
  const std::unique_lock looking(looking_, std::try_to_lock);
  if (!looking) return;
  if (owner) {
    take_in_inbox(*db);
    measure(*db);
    return;
  }
  auto place = FileLock::try_acquire(options_.folder / "owner.lock");
  if (place && *place) {
    // What fails here is tried again at the next look.
    if (open_as_owner(std::move(**place))) (void)write_pending();
  } else if (db == nullptr) {
    (void)open_as_reader();
  } else if (db->TryCatchUpWithPrimary().ok()) {
    measure(*db);
  }
}

void TensorCache::take_in_inbox(rocksdb::DB& db) {
  std::vector<std::string> files;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(inbox(), code))
    if (entry.path().extension() == ".sst") files.push_back(entry.path());
  for (const std::string& file : files) {
    rocksdb::IngestExternalFileOptions options;
    options.move_files = true;
    // A file that cannot be taken in is of no use later either.
    if (!db.IngestExternalFile({file}, options).ok()) ++damaged_;
    fs::remove(file, code);
  }
}

void TensorCache::measure(rocksdb::DB& db) {
  std::error_code code;
  const fs::space_info space = fs::space(options_.folder, code);
  has_room_ = code || space.available >= options_.leave_free;
  std::vector<rocksdb::LiveFileMetaData> files;
  db.GetLiveFilesMetaData(&files);
  std::uint64_t bytes = 0, first = db.GetLatestSequenceNumber();
  const std::uint64_t last = first;
  for (const auto& file : files) {
    bytes += file.size;
    first = std::min(first, file.smallest_seqno);
  }
  bytes_ = bytes;
  old_before_ = bytes >= options_.bytes / 4 * 3 ? first + (last - first) / 2 : 0;
}

TensorCache::Database TensorCache::database() const {
  std::lock_guard lock(mutex_);
  return db_;
}

// ---- Use ----------------------------------------------------------------------------------------

std::optional<std::vector<at::Tensor>> TensorCache::find(const CacheKey& key) {
  look();
  auto pinned = std::make_shared<Pinned>();
  pinned->db = database();
  const auto miss = [this] {
    ++misses_;
    return std::nullopt;
  };
  if (pinned->db == nullptr) return miss();
  rocksdb::ReadOptions options;
  options.verify_checksums = false;  // the entry has its own
  const rocksdb::Status got =
      pinned->db->Get(options, pinned->db->DefaultColumnFamily(), key.bytes(), &pinned->value);
  if (!got.ok()) return miss();
  auto entry = decode_entry(pinned->value.ToStringView(), pinned);
  if (!entry) {
    ++damaged_;
    return miss();
  }
  ++hits_;
  if (entry->stamp < old_before_ && write(key, encode(entry->tensors))) ++renewed_;
  return std::move(entry->tensors);
}

Status TensorCache::insert(const CacheKey& key, const std::vector<at::Tensor>& tensors) {
  look();
  CRABCAST_TRY(write(key, encode(tensors)));
  ++inserted_;
  return {};
}

std::string TensorCache::encode(const std::vector<at::Tensor>& tensors) const {
  const Database db = database();
  return encode_entry(tensors, db == nullptr ? 0 : db->GetLatestSequenceNumber());
}

Status TensorCache::write(const CacheKey& key, std::string entry) {
  if (entry.size() > options_.bytes / kFilesInLimit)
    return fail(Errc::resource_exhausted, "an entry of " + std::to_string(entry.size()) +
                                              " bytes is too large for a cache of " +
                                              std::to_string(options_.bytes));
  if (!has_room_)
    return fail(Errc::disk_full, "the disk of the cache in " + options_.folder.string() +
                                     " has little room left, which is for others");
  Database db;
  {
    std::lock_guard lock(mutex_);
    if (!place_) {
      pending_bytes_ += entry.size();
      pending_.insert_or_assign(key.bytes(), std::move(entry));
      if (pending_bytes_ < file_bytes(options_.bytes)) return {};
    } else {
      db = db_;
    }
  }
  if (db == nullptr) return write_pending();
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  const rocksdb::Status put = db->Put(options, key.bytes(), entry);
  if (!put.ok()) return fail(store_error(put, options_.folder));
  return {};
}

// A reader's entries as a file in the inbox; an owner's, left from when it was a reader, as well.
Status TensorCache::write_pending() {
  std::map<std::string, std::string> entries;
  std::uint64_t number = 0;
  {
    std::lock_guard lock(mutex_);
    entries.swap(pending_);
    pending_bytes_ = 0;
    number = files_written_++;
  }
  if (entries.empty()) return {};
  CRABCAST_TRY(check_inbox());
  const std::string name = std::to_string(::getpid()) + "-" +
                           std::to_string(reinterpret_cast<std::uintptr_t>(this)) + "-" +
                           std::to_string(number);
  const fs::path unfinished = inbox() / (name + ".part");
  rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), store_options(options_.bytes));
  rocksdb::Status status = writer.Open(unfinished);
  for (const auto& [key, entry] : entries)
    if (status.ok()) status = writer.Put(key, entry);
  if (status.ok()) status = writer.Finish();
  std::error_code code;
  if (status.ok()) fs::rename(unfinished, inbox() / (name + ".sst"), code);
  if (status.ok() && !code) return {};
  const Error error = status.ok() ? error_from_errno(code.value(), "name " + unfinished.string())
                                  : store_error(status, options_.folder);
  fs::remove(unfinished, code);
  return fail(error);
}

// What readers leave is bounded, whether or not the owner has a look.
Status TensorCache::check_inbox() const {
  std::uint64_t bytes = 0;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(inbox(), code)) {
    const auto size = entry.file_size(code);
    if (!code) bytes += size;
  }
  if (bytes <= options_.bytes / 4) return {};
  return fail(Errc::queue_full, "the inbox of the cache in " + options_.folder.string() +
                                    " is full; its owner does not take files in");
}

Status TensorCache::flush() {
  CRABCAST_TRY(write_pending());
  Database db;
  {
    std::lock_guard lock(mutex_);
    if (place_.has_value()) db = db_;
  }
  if (db == nullptr) return {};
  const rocksdb::Status flushed = db->Flush(rocksdb::FlushOptions());
  if (!flushed.ok()) return fail(store_error(flushed, options_.folder));
  return {};
}

TensorCacheStats TensorCache::stats() const {
  std::lock_guard lock(mutex_);
  return {.hits = hits_,
          .misses = misses_,
          .damaged = damaged_,
          .inserted = inserted_,
          .renewed = renewed_,
          .bytes = bytes_,
          .owner = place_.has_value(),
          .emptied = emptied_};
}

}  // namespace crabcast::data
