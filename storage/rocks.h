// RocksDB as both stores use it: records, chunk files, and life with a full disk. Internal to
// storage/.
#pragma once

#include <rocksdb/sst_file_writer.h>
#include <rocksdb/write_batch.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/error.h"
#include "storage/database.h"
#include "storage/durability.h"
#include "storage/encoding.h"

namespace crabcast::storage {

// The key that says what the folder holds; every other key starts with another letter.
inline constexpr std::string_view kFormatKey = "f";

// Room that a checkpoint leaves on the disk, so that it cannot take the last bytes from the ledger.
inline constexpr std::uint64_t kRoomForLedger = 8ULL << 20;

// A store's database, which stays readable when the disk is full and writable again when there is
// room.
//
// Operation: after a write failed, RocksDB's log may end in half a record, so RocksDB refuses all
// further writes. Each write that meets this closes the database and opens it again, which reads
// the log up to the last whole record and starts a new one; then the write is tried once more.
// While the disk has no room for that, the database is open for reading only.
//
// Concurrency: all methods from any thread. To be closed, the database waits until nobody uses it,
// at most kReopenWait.
class Rocks {
 public:
  // Returns false to stop. It may call other methods, but no write.
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;

  // `env` is the seam to the disk; nullptr for the real one. already_exists when it is open
  // elsewhere, disk_full, permission_denied, corrupt, unsupported (another format).
  static Result<std::shared_ptr<Rocks>> open(const std::filesystem::path& folder,
                                             const StoreKind& kind, rocksdb::Env* env);
  // Reads a state that the store had at one moment, also while another process writes to it.
  // Creates nothing. not_found; unavailable when the writer changed files too often.
  static Result<std::shared_ptr<Rocks>> open_read_only(const std::filesystem::path& folder,
                                                       const StoreKind& kind);
  Rocks(const Rocks&) = delete;
  Rocks& operator=(const Rocks&) = delete;

  Status write(rocksdb::WriteBatch& batch, Sync sync);
  Status put(std::string_view key, std::string_view value, Sync sync);
  [[nodiscard]] Result<std::optional<std::string>> get(std::string_view key) const;
  // Keys in [from, until), in order.
  Status scan(const std::string& from, const std::string& until, const Visit& visit) const;
  // The last key in [from, until) and its value.
  [[nodiscard]] Result<std::optional<std::pair<std::string, std::string>>> last(
      const std::string& from, const std::string& until) const;

 private:
  // Keeps the database open while it lives.
  class Use {
   public:
    explicit Use(const Rocks& rocks);
    Use(Use&& other) noexcept
        : rocks_(std::exchange(other.rocks_, nullptr)), opening_(other.opening_) {}
    Use& operator=(Use&&) = delete;
    ~Use();
    const Database& operator*() const { return *rocks_->database_; }
    const Database* operator->() const { return rocks_->database_.get(); }
    // Which opening of the database it is.
    [[nodiscard]] std::uint64_t opening() const { return opening_; }

   private:
    const Rocks* rocks_;
    std::uint64_t opening_ = 0;
  };

 public:
  // Bytes of one chunk, where RocksDB read them.
  class Chunk {
   public:
    [[nodiscard]] std::string_view bytes() const { return value_.ToStringView(); }

   private:
    friend class Rocks;
    explicit Chunk(Use use) : use_(std::move(use)) {}
    Use use_;
    rocksdb::PinnableSlice value_;
  };
  // Chunk column family. Every file in it holds the chunks of one checkpoint and nothing else.
  // corrupt or not_found when the chunk cannot be read.
  [[nodiscard]] Result<Chunk> chunk(std::string_view key) const;
  [[nodiscard]] std::filesystem::path incoming() const { return folder_ / "incoming"; }
  // A new file in incoming(), to be filled with chunks in order of their keys.
  Result<std::unique_ptr<rocksdb::SstFileWriter>> new_chunk_file(const std::filesystem::path& file);
  // Moves a finished file into the column family; durable when it returns.
  Status ingest(const std::filesystem::path& file);
  struct ChunkFile {
    std::string first_key;
    std::uint64_t bytes = 0;
    std::string name;  // in folder()
  };
  // From the list of files alone: no chunk is read.
  [[nodiscard]] std::vector<ChunkFile> chunk_files() const;
  // Deletes the files that hold chunks in [first, last].
  Status drop_chunks(const std::string& first, const std::string& last);
  // Takes the files that hold chunks in [first, last] out of the kernel's page cache, if it can.
  void evict(const std::string& first, const std::string& last) const;
  // disk_full unless `bytes` and kRoomForLedger are free.
  [[nodiscard]] Status check_room(std::uint64_t bytes) const;
  Status remove_file(const std::filesystem::path& file);
  // Rewrites all records without those that were deleted or replaced.
  Status compact();

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] bool read_only() const { return read_only_; }

 private:
  Rocks(std::filesystem::path folder, const StoreKind& kind, rocksdb::Env* env, bool read_only)
      : folder_(std::move(folder)), kind_(kind), env_(env), read_only_(read_only) {}
  Status check_format();
  Status clear_incoming();
  using Operation = std::function<rocksdb::Status(const Database&)>;
  Status attempt(const Operation& operation, std::string_view what);
  Status reopen(std::uint64_t failed_opening);
  [[nodiscard]] Status refuse_if_read_only() const;
  [[nodiscard]] rocksdb::Env* env() const;
  [[nodiscard]] Error error(const rocksdb::Status& status, std::string_view what) const;

  const std::filesystem::path folder_;
  const StoreKind kind_;
  rocksdb::Env* const env_;
  const bool read_only_;
  std::unique_ptr<Database> database_;  // replaced by reopen, never null
  mutable std::mutex mutex_;            // guards what follows, and the exchange of database_
  mutable std::condition_variable idle_;
  mutable int users_ = 0;
  std::uint64_t opening_ = 1;
};

// Every record with a key in [from, until), at most `limit`, in order.
template <class Message>
Result<std::vector<Message>> read_records(const Rocks& rocks, const std::string& from,
                                          const std::string& until, const std::string& space,
                                          std::size_t limit) {
  std::vector<Message> records;
  Status damage;
  if (limit == 0) return records;
  CRABCAST_TRY(rocks.scan(from, until, [&](std::string_view key, std::string_view value) {
    auto record = parse_record<Message>(value, space + " with key " + printable(key));
    if (!record) {
      damage = fail(record.error());
      return false;
    }
    records.push_back(std::move(*record));
    return records.size() < limit;
  }));
  if (!damage) return fail(damage.error());
  return records;
}

}  // namespace crabcast::storage
