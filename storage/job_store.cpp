#include "storage/job_store.h"

#include "storage/checkpoints.h"
#include "storage/job_keys.h"
#include "storage/open_with_env.h"
#include "storage/rocks_options.h"
#include "storage/staged_disk.h"

namespace crabcast::storage {
namespace {

class RocksJobStore final : public JobStore {
 public:
  static Result<std::unique_ptr<JobStore>> over(std::shared_ptr<Rocks> rocks);

  Status append_commit(const pb::CommitRecord& commit, Sync sync) override;
  Status rewind_ledger(Step step) override;
  Result<std::optional<pb::CommitRecord>> last_commit() const override;
  Status for_each_commit(Step after,
                         const std::function<bool(const pb::CommitRecord&)>& visit) const override;

  Status put_quarantine(std::span<const pb::BadSample> samples, Sync sync) override;
  Result<std::vector<pb::BadSample>> quarantine() const override;

  Result<std::uint64_t> append_event(pb::Event event, Sync sync) override;
  Result<std::vector<pb::Event>> events(std::uint64_t after_seq, std::size_t limit) const override;

  Status put_evaluation(const pb::EvaluationRecord& record, Sync sync) override;
  Result<std::vector<pb::EvaluationRecord>> evaluations() const override;

  Status put_value(const std::string& key, const std::string& value, Sync sync) override {
    return rocks_->put(key_of(JobKey::value, key), value, sync);
  }
  Result<std::optional<std::string>> value(const std::string& key) const override {
    return rocks_->get(key_of(JobKey::value, key));
  }

  Result<std::unique_ptr<CheckpointWriter>> begin_checkpoint(CheckpointId id) override {
    return checkpoints_->begin(id);
  }
  Result<std::vector<CheckpointId>> checkpoint_ids() const override { return checkpoints_->ids(); }
  Result<std::vector<pb::CheckpointManifest>> checkpoints() const override;
  Result<pb::CheckpointManifest> manifest(CheckpointId id) const override {
    return checkpoints_->manifest(id);
  }
  Result<std::string> read_chunk(CheckpointId id, std::uint32_t index) const override {
    return checkpoints_->read_chunk(id, index);
  }
  Result<std::unique_ptr<CheckpointReader>> open_checkpoint(CheckpointId id) const override {
    return checkpoints_->open(id);
  }
  void evict(CheckpointId id) const override { checkpoints_->evict(id); }
  Status for_each_chunk(CheckpointId id, const Checkpoints::VisitChunk& visit) const override {
    return checkpoints_->for_each_chunk(id, visit);
  }
  Result<VerifyReport> verify_chunks(CheckpointId id, std::uint32_t first,
                                     std::uint32_t count) const override {
    return checkpoints_->verify(id, first, count);
  }
  Result<std::optional<pb::CheckpointManifest>> newest_verified_up_to(
      CheckpointId at_most,
      const std::function<void(const VerifyReport&)>& problem) const override {
    return checkpoints_->newest_verified(at_most, problem);
  }
  Result<std::vector<CheckpointId>> apply_retention(const RetentionPolicy& policy,
                                                    const std::set<CheckpointId>& in_use) override {
    return checkpoints_->apply_retention(policy, in_use);
  }
  Status drop_checkpoints_after(CheckpointId last) override {
    return checkpoints_->drop_after(last);
  }
  Result<Reasons> retained(const RetentionPolicy& policy,
                           const std::set<CheckpointId>& in_use) const override {
    return checkpoints_->retained(policy, in_use);
  }

  Status pin(CheckpointId id, const pb::CheckpointPin& pin) override {
    return checkpoints_->pin(id, pin);
  }
  Status unpin(CheckpointId id) override { return checkpoints_->unpin(id); }
  Result<std::map<CheckpointId, pb::CheckpointPin>> pins() const override {
    return checkpoints_->pins();
  }
  Status mark_damaged(const VerifyReport& report) override {
    return checkpoints_->mark_damaged(report);
  }
  Result<std::map<CheckpointId, pb::CheckpointDamage>> damages() const override {
    return checkpoints_->damages();
  }

  Result<LeftOver> left_over() const override { return checkpoints_->left_over(); }
  Status drop_left_over() override { return checkpoints_->drop_left_over_chunks(); }
  Status compact() override { return rocks_->compact(); }

 private:
  explicit RocksJobStore(std::shared_ptr<Rocks> rocks)
      : rocks_(std::move(rocks)), checkpoints_(std::make_shared<Checkpoints>(rocks_)) {}
  Status load_ends();

  std::shared_ptr<Rocks> rocks_;
  std::shared_ptr<Checkpoints> checkpoints_;  // shared with the writers
  std::uint64_t last_step_ = 0;
  std::uint64_t last_event_ = 0;
};

std::string quarantine_key(const pb::SampleRef& sample) {
  std::string key = key_of(JobKey::quarantine);
  append_u32(key, sample.dataset());
  append_u64(key, sample.index());
  return key;
}

// The number in the last key of the space, 0 when there is none.
Result<std::uint64_t> last_number(const Rocks& rocks, JobKey space) {
  const auto last = rocks.last(key_of(space), end_of(space));
  if (!last) return fail(last.error());
  if (!last->has_value()) return 0;
  const std::string& key = (*last)->first;
  if (key.size() != 9)
    return fail(Errc::corrupt, rocks.folder().string() + ": a key has a wrong length");
  return read_u64(std::string_view(key).substr(1));
}

Result<std::unique_ptr<JobStore>> RocksJobStore::over(std::shared_ptr<Rocks> rocks) {
  std::unique_ptr<RocksJobStore> store(new RocksJobStore(std::move(rocks)));
  CRABCAST_TRY(store->load_ends());
  if (!store->rocks_->read_only()) CRABCAST_TRY(store->checkpoints_->drop_left_over_chunks());
  return store;
}

Status RocksJobStore::load_ends() {
  const auto step = last_number(*rocks_, JobKey::ledger);
  if (!step) return fail(step.error());
  const auto event = last_number(*rocks_, JobKey::event);
  if (!event) return fail(event.error());
  last_step_ = *step;
  last_event_ = *event;
  return {};
}

Status RocksJobStore::append_commit(const pb::CommitRecord& commit, Sync sync) {
  if (commit.step() != last_step_ + 1) {
    return fail(Errc::internal, "the ledger ends at step " + std::to_string(last_step_) +
                                    " and cannot take step " + std::to_string(commit.step()));
  }
  rocksdb::WriteBatch batch;
  auto status = batch.Put(key_of(JobKey::ledger, commit.step()), commit.SerializeAsString());
  for (const pb::BadSample& bad : commit.quarantined())
    if (status.ok()) status = batch.Put(quarantine_key(bad.sample()), bad.SerializeAsString());
  if (!status.ok()) return fail(error_of(status, "write a commit"));
  CRABCAST_TRY(rocks_->write(batch, sync));
  last_step_ = commit.step();
  return {};
}

Status RocksJobStore::put_quarantine(std::span<const pb::BadSample> samples, Sync sync) {
  rocksdb::WriteBatch batch;
  for (const pb::BadSample& bad : samples) {
    const auto status = batch.Put(quarantine_key(bad.sample()), bad.SerializeAsString());
    if (!status.ok()) return fail(error_of(status, "write bad samples"));
  }
  return rocks_->write(batch, sync);
}

Result<std::vector<pb::BadSample>> RocksJobStore::quarantine() const {
  return read_records<pb::BadSample>(*rocks_, key_of(JobKey::quarantine),
                                     end_of(JobKey::quarantine), "quarantine", SIZE_MAX);
}

Status RocksJobStore::rewind_ledger(Step step) {
  if (step.value() > last_step_) {
    return fail(Errc::invalid_argument, "the ledger ends at step " + std::to_string(last_step_) +
                                            ", before step " + std::to_string(step.value()));
  }
  if (step.value() == last_step_) return {};
  rocksdb::WriteBatch batch;
  const auto status =
      batch.DeleteRange(key_of(JobKey::ledger, step.value() + 1), end_of(JobKey::ledger));
  if (!status.ok()) return fail(error_of(status, "rewind the ledger"));
  CRABCAST_TRY(rocks_->write(batch, Sync::yes));
  last_step_ = step.value();
  return {};
}

Result<std::optional<pb::CommitRecord>> RocksJobStore::last_commit() const {
  const auto last = rocks_->last(key_of(JobKey::ledger), end_of(JobKey::ledger));
  if (!last) return fail(last.error());
  if (!last->has_value()) return std::optional<pb::CommitRecord>();
  auto record = parse_record<pb::CommitRecord>((*last)->second, "the last commit of the ledger");
  if (!record) return fail(record.error());
  return std::optional(std::move(*record));
}

Status RocksJobStore::for_each_commit(
    Step after, const std::function<bool(const pb::CommitRecord&)>& visit) const {
  std::uint64_t expected = after.value() + 1;
  Status result;
  CRABCAST_TRY(rocks_->scan(
      key_of(JobKey::ledger, expected), end_of(JobKey::ledger),
      [&](std::string_view key, std::string_view value) {
        const std::string name = text_of("ledger", expected);
        auto record = parse_record<pb::CommitRecord>(value, name);
        if (!record) {
          result = fail(record.error());
        } else if (record->step() != expected || key != key_of(JobKey::ledger, expected)) {
          result = fail(Errc::corrupt, name + ": the step is missing from the ledger");
        }
        ++expected;
        return result.has_value() && visit(*record);
      }));
  return result;
}

Result<std::uint64_t> RocksJobStore::append_event(pb::Event event, Sync sync) {
  event.set_seq(last_event_ + 1);
  CRABCAST_TRY(rocks_->put(key_of(JobKey::event, event.seq()), event.SerializeAsString(), sync));
  return ++last_event_;
}

Result<std::vector<pb::Event>> RocksJobStore::events(std::uint64_t after_seq,
                                                     std::size_t limit) const {
  return read_records<pb::Event>(*rocks_, key_of(JobKey::event, after_seq + 1),
                                 end_of(JobKey::event), "event", limit);
}

Status RocksJobStore::put_evaluation(const pb::EvaluationRecord& record, Sync sync) {
  rocksdb::WriteBatch batch;
  const auto status =
      batch.Put(key_of(JobKey::evaluation, record.checkpoint()), record.SerializeAsString());
  if (!status.ok()) return fail(error_of(status, "write an evaluation"));
  const auto add_scores = [&record](pb::CheckpointManifest& manifest) {
    auto& metrics = *manifest.mutable_metrics();
    metrics["eval/mean"] = record.mean();
    for (const pb::TaskScore& score : record.scores())
      metrics["eval/" + score.task()] = score.score();
  };
  return checkpoints_->write_with_manifest(CheckpointId(record.checkpoint()), batch, sync,
                                           add_scores);
}

Result<std::vector<pb::EvaluationRecord>> RocksJobStore::evaluations() const {
  return read_records<pb::EvaluationRecord>(*rocks_, key_of(JobKey::evaluation),
                                            end_of(JobKey::evaluation), "evaluation", SIZE_MAX);
}

Result<std::vector<pb::CheckpointManifest>> RocksJobStore::checkpoints() const {
  const auto ids = checkpoints_->ids();
  if (!ids) return fail(ids.error());
  std::vector<pb::CheckpointManifest> manifests;
  for (const CheckpointId id : *ids) {
    auto manifest = checkpoints_->manifest(id);
    // Retention may have taken it since the ids were listed.
    if (!manifest && manifest.error().code == Errc::not_found) continue;
    if (!manifest) return fail(manifest.error());
    manifests.push_back(std::move(*manifest));
  }
  return manifests;
}

}  // namespace

Result<std::unique_ptr<JobStore>> open_job_store(const std::filesystem::path& folder,
                                                 rocksdb::Env* env) {
  auto rocks = Rocks::open(folder, kJobStore, env);
  if (!rocks) return fail(rocks.error());
  return RocksJobStore::over(std::move(*rocks));
}

Result<std::unique_ptr<JobStore>> JobStore::open(const std::filesystem::path& folder) {
  return open_job_store(folder, staged_disk());
}

Result<std::unique_ptr<JobStore>> JobStore::open_read_only(const std::filesystem::path& folder) {
  auto rocks = Rocks::open_read_only(folder, kJobStore);
  if (!rocks) return fail(rocks.error());
  return RocksJobStore::over(std::move(*rocks));
}

}  // namespace crabcast::storage
