// Checkpoints: which is the newest good one, which are kept, pinned, or marked as damaged.
#include <algorithm>

#include "protocol/clock.h"
#include "storage/checkpoints.h"
#include "storage/job_keys.h"
#include "storage/rocks_options.h"

namespace crabcast::storage {
namespace {

template <class Message>
Result<std::map<CheckpointId, Message>> read_marks(const Rocks& rocks, JobKey space,
                                                   const std::string& name) {
  std::map<CheckpointId, Message> marks;
  Status damage;
  CRABCAST_TRY(
      rocks.scan(key_of(space), end_of(space), [&](std::string_view key, std::string_view value) {
        if (key.size() != 9) {
          damage = fail(Errc::corrupt, name + ": a key has a wrong length");
          return false;
        }
        const std::uint64_t id = read_u64(key.substr(1));
        auto mark = parse_record<Message>(value, text_of(name.c_str(), id));
        if (!mark) {
          damage = fail(mark.error());
          return false;
        }
        marks.emplace(CheckpointId(id), std::move(*mark));
        return true;
      }));
  if (!damage) return fail(damage.error());
  return marks;
}

}  // namespace

// ---- The newest that verifies ------------------------------------------------------------------

Result<std::optional<pb::CheckpointManifest>> Checkpoints::newest_verified(
    CheckpointId at_most, const Problem& problem) const {
  auto all = ids();
  if (!all) return fail(all.error());
  std::erase_if(*all, [at_most](CheckpointId id) { return id > at_most; });
  const auto marked = damages();
  if (!marked) return fail(marked.error());
  const auto is_marked = [&](CheckpointId id) { return marked->contains(id); };
  std::vector<CheckpointId> doubtful;
  std::copy_if(all->begin(), all->end(), std::back_inserter(doubtful), is_marked);
  std::erase_if(*all, is_marked);
  auto found = newest_verified_of(*all, problem);
  if (!found) return found;
  if (!*found) return newest_verified_of(doubtful, problem);  // the last hope: read them again
  for (auto id = doubtful.rbegin(); id != doubtful.rend(); ++id) {
    if (id->value() < (*found)->id()) break;
    const auto& problems = marked->at(*id).problems();
    VerifyReport report;
    report.id = *id;
    report.damaged = true;
    report.problems.assign(problems.begin(), problems.end());
    problem(report);
  }
  return found;
}

Result<std::optional<pb::CheckpointManifest>> Checkpoints::newest_verified_of(
    const std::vector<CheckpointId>& ids, const Problem& problem) const {
  for (auto id = ids.rbegin(); id != ids.rend(); ++id) {
    const auto report = verify(*id);
    if (!report && report.error().code == Errc::not_found) continue;  // retention took it
    if (!report) return fail(report.error());
    if (!report->ok()) {
      problem(*report);
      continue;
    }
    auto found = manifest(*id);
    if (!found && found.error().code == Errc::not_found) continue;
    if (!found) return fail(found.error());
    return std::optional(std::move(*found));
  }
  return std::optional<pb::CheckpointManifest>();
}

// ---- Retention ---------------------------------------------------------------------------------

Result<std::vector<RetentionCandidate>> Checkpoints::candidates(
    const RetentionPolicy& policy, const std::vector<CheckpointId>& ids) const {
  const auto marked = damages();
  if (!marked) return fail(marked.error());
  std::vector<RetentionCandidate> all;
  for (const CheckpointId id : ids) {
    RetentionCandidate& one = all.emplace_back();
    one.id = id;
    const auto found = stored(id);
    one.damaged = !found || marked->contains(id);
    if (!found) continue;
    one.unix_ms = found->manifest.unix_ms();
    const auto& metrics = found->manifest.metrics();
    if (const auto score = metrics.find(policy.by); score != metrics.end())
      one.score = score->second;
  }
  return all;
}

Result<Reasons> Checkpoints::retained(const RetentionPolicy& policy,
                                      const std::set<CheckpointId>& in_use) const {
  const auto all = ids();
  if (!all) return fail(all.error());
  return retained_of(*all, policy, in_use);
}

Result<Reasons> Checkpoints::retained_of(const std::vector<CheckpointId>& ids,
                                         const RetentionPolicy& policy,
                                         const std::set<CheckpointId>& in_use) const {
  const auto looked_at = candidates(policy, ids);
  if (!looked_at) return fail(looked_at.error());
  const auto pinned = pins();
  if (!pinned) return fail(pinned.error());
  Reasons kept = kept_by(policy, *looked_at);
  for (const CheckpointId id : ids) {
    if (pinned->contains(id)) kept[id].push_back("pinned");
    if (in_use.contains(id)) kept[id].push_back("in use");
  }
  if (kept.size() == ids.size()) return kept;
  const auto newest = newest_verified(CheckpointId{UINT64_MAX}, [](const VerifyReport&) {});
  if (!newest) return fail(newest.error());
  if (*newest) {
    kept[CheckpointId((*newest)->id())].push_back("newest that verifies");
    return kept;
  }
  // Nothing verifies: what looks superfluous may be all that can still be rescued.
  for (const CheckpointId id : ids) kept[id].push_back("none verifies");
  return kept;
}

Result<std::vector<CheckpointId>> Checkpoints::apply_retention(
    const RetentionPolicy& policy, const std::set<CheckpointId>& in_use) {
  const auto all = ids();
  if (!all) return fail(all.error());
  const auto kept = retained_of(*all, policy, in_use);
  if (!kept) return fail(kept.error());

  std::vector<CheckpointId> dropped = *all;
  std::erase_if(dropped, [&](CheckpointId id) { return kept->contains(id); });
  CRABCAST_TRY(drop(dropped));
  return dropped;
}

Status Checkpoints::drop_after(CheckpointId last) {
  auto after = ids();
  if (!after) return fail(after.error());
  std::erase_if(*after, [last](CheckpointId id) { return id <= last; });
  return drop(*after);
}

Status Checkpoints::drop(const std::vector<CheckpointId>& ids) {
  if (ids.empty()) return {};
  const std::scoped_lock lock(manifest_mutex_);
  std::vector<std::pair<CheckpointId, std::uint64_t>> writes;
  rocksdb::WriteBatch batch;
  for (const CheckpointId id : ids) {
    if (const auto found = stored(id)) writes.emplace_back(id, found->write);
    for (const JobKey space : {JobKey::manifest, JobKey::damage, JobKey::pin}) {
      const auto status = batch.Delete(key_of(space, id.value()));
      if (!status.ok()) return fail(error_of(status, text_of("manifest", id.value())));
    }
  }
  // First invisible, then gone: after a crash in between, the next open drops the chunks.
  CRABCAST_TRY(rocks_->write(batch, Sync::yes));
  for (const auto& [id, write] : writes) CRABCAST_TRY(drop_write(id, write));
  return {};
}

// ---- Pins and marks ----------------------------------------------------------------------------

Status Checkpoints::pin(CheckpointId id, const pb::CheckpointPin& pin) {
  const std::scoped_lock lock(manifest_mutex_);
  if (const auto found = stored(id); !found && found.error().code == Errc::not_found)
    return fail(found.error());
  return rocks_->put(key_of(JobKey::pin, id.value()), pin.SerializeAsString(), Sync::yes);
}

Status Checkpoints::unpin(CheckpointId id) {
  const std::scoped_lock lock(manifest_mutex_);
  const std::string key = key_of(JobKey::pin, id.value());
  const auto pinned = rocks_->get(key);
  if (!pinned) return fail(pinned.error());
  if (!pinned->has_value()) {
    return fail(Errc::not_found, "checkpoint " + std::to_string(id.value()) + " in " +
                                     rocks_->folder().string() + " is not pinned");
  }
  rocksdb::WriteBatch batch;
  if (const auto status = batch.Delete(key); !status.ok()) return fail(error_of(status, "unpin"));
  return rocks_->write(batch, Sync::yes);
}

Result<std::map<CheckpointId, pb::CheckpointPin>> Checkpoints::pins() const {
  return read_marks<pb::CheckpointPin>(*rocks_, JobKey::pin, "pin");
}

Status Checkpoints::mark_damaged(const VerifyReport& report) {
  const std::scoped_lock lock(manifest_mutex_);
  const auto found = stored(report.id);
  if (!found && found.error().code != Errc::corrupt) return {};
  if (found && found->write != report.write) return {};
  pb::CheckpointDamage damage;
  damage.set_write(report.write);
  damage.set_unix_ms(unix_ms_now());
  for (const std::string& problem : report.problems) damage.add_problems(problem);
  return rocks_->put(key_of(JobKey::damage, report.id.value()), damage.SerializeAsString(),
                     Sync::yes);
}

Result<std::map<CheckpointId, pb::CheckpointDamage>> Checkpoints::damages() const {
  auto marks = read_marks<pb::CheckpointDamage>(*rocks_, JobKey::damage, "damage");
  if (!marks) return marks;
  std::erase_if(*marks, [this](const auto& mark) {
    const auto found = stored(mark.first);
    return found && found->write != mark.second.write();
  });
  return marks;
}

}  // namespace crabcast::storage
