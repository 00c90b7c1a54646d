// A job's store, owned by its coordinator: ledger, events, evaluations, checkpoints, in RocksDB
// (docs/storage-format.md; C-1, C-2, S-2, J-1).
//
// Concurrency: const methods from any thread. The others from one thread at a time for each of two
// groups, which may be two threads: the records (append_*, rewind_ledger, put_*), and the
// checkpoints (begin_checkpoint and its writers). So a commit never waits for a checkpoint. Pins,
// marks of damage and retention may come from either.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "protocol/checksum.h"
#include "protocol/error.h"
#include "protocol/ids.h"
#include "protocol/records.pb.h"
#include "storage/durability.h"
#include "storage/retention.h"

namespace crabcast::storage {

// Takes one checkpoint's chunks, in order, and makes it visible with `commit`. Chunks go to an SST
// file that is ingested at commit; the manifest is one synced write after it. Destroyed without
// commit it leaves nothing behind. It may outlive its store. After an error every call repeats it.
class CheckpointWriter {
 public:
  virtual ~CheckpointWriter() = default;
  // corrupt when `bytes` do not match `entry`; disk_full, also when the chunk would leave less
  // than 8 MiB for the ledger; invalid_argument when it is out of order or over kChunkBytes.
  virtual Status put_chunk(const pb::ChunkEntry& entry, std::span<const std::byte> bytes) = 0;
  // invalid_argument when chunks are missing or do not match the manifest. Durable when it returns.
  virtual Status commit(const pb::CheckpointManifest& manifest) = 0;
};

// What `verify` found out about one checkpoint.
struct VerifyReport {
  CheckpointId id;
  std::uint64_t chunks = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> problems;  // each names the key, for example chunk/00000050/00000003
  bool damaged = false;               // bytes are wrong or gone, not only unreadable for now
  std::uint64_t write = 0;            // which write of the checkpoint was read
  [[nodiscard]] bool ok() const { return problems.empty(); }
};

// Chunks that no manifest means: what a killed process was writing.
struct LeftOver {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
};

// One checkpoint to be read in any order. It sees what was there when it was opened; a chunk that
// was dropped since is corrupt. Methods from any thread.
class CheckpointReader {
 public:
  virtual ~CheckpointReader() = default;
  [[nodiscard]] virtual const pb::CheckpointManifest& manifest() const = 0;
  // Checked against the manifest's hash; corrupt names the key.
  [[nodiscard]] virtual Result<std::string> chunk(std::uint32_t index) const = 0;
};

class JobStore {
 public:
  static Result<std::unique_ptr<JobStore>> open(const std::filesystem::path& folder);
  static Result<std::unique_ptr<JobStore>> open_read_only(const std::filesystem::path& folder);
  virtual ~JobStore() = default;

  // Ledger. `commit` must be the step after the last one, or step 1 (internal error otherwise). Its
  // quarantined samples are put into the quarantine with it.
  virtual Status append_commit(const pb::CommitRecord& commit, Sync sync) = 0;
  // Forgets the commits after `step`: resuming from an older checkpoint redoes them. Durable.
  // invalid_argument when the ledger ends before `step`.
  virtual Status rewind_ledger(Step step) = 0;
  virtual Result<std::optional<pb::CommitRecord>> last_commit() const = 0;
  // Calls `visit` for each commit with step > after, in order, until it returns false. corrupt when
  // a step is missing between two others.
  virtual Status for_each_commit(
      Step after, const std::function<bool(const pb::CommitRecord&)>& visit) const = 0;

  // Puts samples into the quarantine ahead of a commit; with an earlier step they replace what is
  // known of them.
  virtual Status put_quarantine(std::span<const pb::BadSample> samples, Sync sync) = 0;
  // Every sample that was ever quarantined, by data set and index. A rewound ledger takes none out:
  // steps that are done again must draw what they drew the first time.
  virtual Result<std::vector<pb::BadSample>> quarantine() const = 0;

  virtual Result<std::uint64_t> append_event(pb::Event event, Sync sync) = 0;
  virtual Result<std::vector<pb::Event>> events(std::uint64_t after_seq,
                                                std::size_t limit) const = 0;

  // The evaluation, and its scores as metrics eval/mean and eval/TASK of the checkpoint's manifest.
  // The manifest may be gone by then; the evaluation is kept.
  virtual Status put_evaluation(const pb::EvaluationRecord& record, Sync sync) = 0;
  virtual Result<std::vector<pb::EvaluationRecord>> evaluations() const = 0;  // by checkpoint

  // A small named value, for example "job" (the JobStatus at the end of the run) or "spec".
  virtual Status put_value(const std::string& key, const std::string& value, Sync sync) = 0;
  virtual Result<std::optional<std::string>> value(const std::string& key) const = 0;

  // Checkpoints. One that has the id already stays as it is until `commit` replaces it.
  virtual Result<std::unique_ptr<CheckpointWriter>> begin_checkpoint(CheckpointId id) = 0;
  // Every visible checkpoint, also one whose manifest is damaged; oldest first.
  virtual Result<std::vector<CheckpointId>> checkpoint_ids() const = 0;
  // Their manifests; corrupt names the key of the first damaged one.
  virtual Result<std::vector<pb::CheckpointManifest>> checkpoints() const = 0;
  // not_found, corrupt.
  virtual Result<pb::CheckpointManifest> manifest(CheckpointId id) const = 0;
  // The chunk's bytes, checked against the manifest's hash; corrupt names the key. It reads the
  // manifest each time: for many chunks use for_each_chunk.
  virtual Result<std::string> read_chunk(CheckpointId id, std::uint32_t index) const = 0;
  // not_found, corrupt.
  virtual Result<std::unique_ptr<CheckpointReader>> open_checkpoint(CheckpointId id) const = 0;
  // All chunks of a manifest, in order, each checked before `visit` sees it, until it returns
  // false.
  virtual Status for_each_chunk(
      CheckpointId id,
      const std::function<bool(const pb::ChunkEntry&, std::span<const std::byte>)>& visit)
      const = 0;
  // Reads all chunks, or `count` of them from `first` on. not_found when there is no such
  // checkpoint; damage is in the report.
  virtual Result<VerifyReport> verify_chunks(CheckpointId id, std::uint32_t first,
                                             std::uint32_t count) const = 0;
  Result<VerifyReport> verify(CheckpointId id) const { return verify_chunks(id, 0, UINT32_MAX); }
  // Lets the kernel forget what it has in memory of the chunks, so that they are read from the
  // disk.
  virtual void evict(CheckpointId id) const = 0;
  // Walks back from the newest, or from `at_most`; nullopt when none verifies. Those that are
  // marked as damaged are read only when no other one verifies. `problem` hears of each bad one.
  virtual Result<std::optional<pb::CheckpointManifest>> newest_verified_up_to(
      CheckpointId at_most, const std::function<void(const VerifyReport&)>& problem) const = 0;
  Result<std::optional<pb::CheckpointManifest>> newest_verified(
      const std::function<void(const VerifyReport&)>& problem) const {
    return newest_verified_up_to(CheckpointId{UINT64_MAX}, problem);
  }
  // Deletes what the policy does not keep and nobody has pinned; never the newest that verifies
  // (C-2), and nothing when none does. Reads that checkpoint through when there is something to
  // delete. Returns the ids.
  virtual Result<std::vector<CheckpointId>> apply_retention(
      const RetentionPolicy& policy, const std::set<CheckpointId>& in_use) = 0;
  // Deletes all that are newer: what was trained since is void, and must not be found again.
  virtual Status drop_checkpoints_after(CheckpointId last) = 0;

  // What apply_retention would keep, and why; it deletes the others. Reads what that would read.
  virtual Result<Reasons> retained(const RetentionPolicy& policy,
                                   const std::set<CheckpointId>& in_use) const = 0;

  // A pinned checkpoint is kept until it is unpinned. Durable. not_found.
  virtual Status pin(CheckpointId id, const pb::CheckpointPin& pin) = 0;
  virtual Status unpin(CheckpointId id) = 0;
  virtual Result<std::map<CheckpointId, pb::CheckpointPin>> pins() const = 0;
  // Remembers that the report found damage. Nothing happens when the checkpoint was written again
  // since. Durable.
  virtual Status mark_damaged(const VerifyReport& report) = 0;
  virtual Result<std::map<CheckpointId, pb::CheckpointDamage>> damages() const = 0;

  // What drop_left_over would give back.
  virtual Result<LeftOver> left_over() const = 0;
  // For a store that nobody writes checkpoints to; opening one for writing does it, too.
  virtual Status drop_left_over() = 0;
  // Rewrites the records without what was deleted or replaced. Takes as much room as they do, for
  // a while.
  virtual Status compact() = 0;
};

}  // namespace crabcast::storage
