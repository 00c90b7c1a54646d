// Tensors on disk under a size limit: decoded samples, and what frozen towers made of them. Several
// processes of one node share a cache.
//
// Store: RocksDB with FIFO compaction, which drops the oldest file when the limit is passed and
// never rewrites a value. An entry that is used when it is among the older half of a cache that is
// nearly full is written once more, so that what is used stays and what is not goes.
//
// Sharing: RocksDB lets one process write. The first to open a cache owns it; the others read it as
// secondary instances and leave what they insert in `inbox/` as finished SST files, which the owner
// takes in. When the owner ends, the next one that has a look (`look_every`) becomes the owner.
//
// A cache takes no room from others: while less than `leave_free` is free on its disk, nothing is
// inserted. Checkpoints and ledgers lie there too.
//
// A cache can only lose entries, never give wrong ones: every entry has a checksum over all its
// bytes, checked when it is read; one that does not fit counts as not there. Nothing is synced: a
// power cut costs the newest entries. A store that cannot be read is emptied when it is opened.
//
// Concurrency: all methods from any thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/cache_key.h"
#include "data/files.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace rocksdb {
class DB;
}

namespace crabcast::data {

struct TensorCacheOptions {
  std::filesystem::path folder;
  std::uint64_t leave_free = 1ULL << 30;          // bytes
  std::uint64_t bytes = 0;                        // limit on disk, at least 1 MiB
  Duration look_every = std::chrono::seconds(2);  // at the inbox, or for the owner's place
};

struct TensorCacheStats {
  std::uint64_t hits = 0, misses = 0, damaged = 0, inserted = 0, renewed = 0;
  std::uint64_t bytes = 0;  // on disk, as of the last look
  bool owner = false;
  bool emptied = false;  // the store could not be read when it was opened
};

class TensorCache {
 public:
  // invalid_argument, permission_denied, disk_full, io_error.
  static Result<std::unique_ptr<TensorCache>> open(const TensorCacheOptions& options);
  ~TensorCache();
  TensorCache(const TensorCache&) = delete;
  TensorCache& operator=(const TensorCache&) = delete;

  // The tensors as they were inserted, on the host; nobody may write to them. They may outlive the
  // cache. Nothing when the entry is not there, or damaged.
  std::optional<std::vector<at::Tensor>> find(const CacheKey& key);
  // Contiguous tensors on the host. An error says why the entry is not kept; all else goes on.
  Status insert(const CacheKey& key, const std::vector<at::Tensor>& tensors);
  // Makes what was inserted visible to the other processes.
  Status flush();
  [[nodiscard]] TensorCacheStats stats() const;

 private:
  using Database = std::shared_ptr<rocksdb::DB>;
  explicit TensorCache(TensorCacheOptions options);
  Status take_place();
  Status open_as_owner(FileLock place);
  Status open_as_reader();
  void look();
  void take_in_inbox(rocksdb::DB& db);
  void measure(rocksdb::DB& db);
  [[nodiscard]] Database database() const;
  [[nodiscard]] std::string encode(const std::vector<at::Tensor>& tensors) const;
  Status write(const CacheKey& key, std::string entry);
  Status write_pending();
  [[nodiscard]] Status check_inbox() const;
  [[nodiscard]] std::filesystem::path inbox() const { return options_.folder / "inbox"; }

  const TensorCacheOptions options_;
  std::atomic<std::uint64_t> hits_ = 0, misses_ = 0, damaged_ = 0, inserted_ = 0, renewed_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<bool> has_room_ = true;
  std::atomic<std::uint64_t> old_before_ = 0;  // entries with an older stamp are renewed when used
  std::filesystem::path reader_folder_;        // a secondary instance's own
  std::mutex looking_;                         // one thread looks at a time
  mutable std::mutex mutex_;                   // guards what follows
  std::optional<FileLock> place_;              // the owner's; none: a reader
  Database db_;                                // null: a reader before there is a store
  bool emptied_ = false;
  std::map<std::string, std::string> pending_;  // a reader's, until they fill a file
  std::uint64_t pending_bytes_ = 0;
  std::uint64_t files_written_ = 0;
  TimePoint next_look_{};
};

}  // namespace crabcast::data
