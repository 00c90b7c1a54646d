// Checkpoints in a job's store: manifests, chunks, verify (checkpoints.cpp); retention, pins, marks
// of damage (checkpoint_marks.cpp). C-1, C-2. Internal to storage/.
//
// Chunks of one checkpoint are one file of the chunk column family, under keys that start with the
// checkpoint's id and a write number that no other attempt in this store has. The manifest says
// which write it means. So a checkpoint that is written again replaces the old one at once, by its
// manifest, and chunks that no manifest means are known as left over.
#pragma once

#include <rocksdb/sst_file_writer.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "storage/job_store.h"
#include "storage/rocks.h"

namespace crabcast::storage {

// Concurrency: as JobStore; writers and the owner thread change manifests under one mutex.
class Checkpoints : public std::enable_shared_from_this<Checkpoints> {
 public:
  using VisitChunk = std::function<bool(const pb::ChunkEntry&, std::span<const std::byte>)>;
  using Problem = std::function<void(const VerifyReport&)>;

  explicit Checkpoints(std::shared_ptr<Rocks> rocks) : rocks_(std::move(rocks)) {}
  // Drops chunks without a manifest: the process died between the two.
  Status drop_left_over_chunks();
  [[nodiscard]] Result<LeftOver> left_over() const;

  Result<std::unique_ptr<CheckpointWriter>> begin(CheckpointId id);
  [[nodiscard]] Result<std::vector<CheckpointId>> ids() const;
  [[nodiscard]] Result<pb::CheckpointManifest> manifest(CheckpointId id) const;
  [[nodiscard]] Result<std::unique_ptr<CheckpointReader>> open(CheckpointId id) const;
  void evict(CheckpointId id) const;
  Status for_each_chunk(CheckpointId id, const VisitChunk& visit) const;
  [[nodiscard]] Result<std::string> read_chunk(CheckpointId id, std::uint32_t index) const;
  [[nodiscard]] Result<VerifyReport> verify(CheckpointId id, std::uint32_t first = 0,
                                            std::uint32_t count = UINT32_MAX) const;
  [[nodiscard]] Result<std::optional<pb::CheckpointManifest>> newest_verified(
      CheckpointId at_most, const Problem& problem) const;
  Result<std::vector<CheckpointId>> apply_retention(const RetentionPolicy& policy,
                                                    const std::set<CheckpointId>& in_use);
  Status drop_after(CheckpointId last);
  [[nodiscard]] Result<Reasons> retained(const RetentionPolicy& policy,
                                         const std::set<CheckpointId>& in_use) const;
  Status pin(CheckpointId id, const pb::CheckpointPin& pin);
  Status unpin(CheckpointId id);
  [[nodiscard]] Result<std::map<CheckpointId, pb::CheckpointPin>> pins() const;
  Status mark_damaged(const VerifyReport& report);
  // Of the writes that the manifests mean.
  [[nodiscard]] Result<std::map<CheckpointId, pb::CheckpointDamage>> damages() const;
  // Writes `batch` together with the manifest that `change` has changed, if there is one.
  Status write_with_manifest(CheckpointId id, rocksdb::WriteBatch& batch, Sync sync,
                             const std::function<void(pb::CheckpointManifest&)>& change);

 private:
  friend class ChunkFileWriter;
  class Reader;
  // A manifest as it is stored: with the number of the write that its chunks belong to.
  struct Stored {
    std::uint64_t write = 0;
    pb::CheckpointManifest manifest;
  };
  [[nodiscard]] Result<Stored> stored(CheckpointId id) const;
  [[nodiscard]] Result<Rocks::Chunk> checked_chunk(const Stored& stored,
                                                   const pb::ChunkEntry& entry) const;
  Status publish(const pb::CheckpointManifest& manifest, std::uint64_t write);
  Status drop(const std::vector<CheckpointId>& ids);
  Status drop_write(CheckpointId id, std::uint64_t write);
  // Files of chunks that no manifest means, and the last write number that was ever used.
  struct Unmeant {
    std::vector<Rocks::ChunkFile> files;
    std::uint64_t last_write = 0;
  };
  [[nodiscard]] Result<Unmeant> unmeant_files() const;
  [[nodiscard]] Result<std::vector<RetentionCandidate>> candidates(
      const RetentionPolicy& policy, const std::vector<CheckpointId>& ids) const;
  [[nodiscard]] Result<Reasons> retained_of(const std::vector<CheckpointId>& ids,
                                            const RetentionPolicy& policy,
                                            const std::set<CheckpointId>& in_use) const;
  [[nodiscard]] Result<std::optional<pb::CheckpointManifest>> newest_verified_of(
      const std::vector<CheckpointId>& ids, const Problem& problem) const;

  std::shared_ptr<Rocks> rocks_;
  std::mutex manifest_mutex_;
  std::atomic<std::uint64_t> next_write_ = 1;
};

}  // namespace crabcast::storage
