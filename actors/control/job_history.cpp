// What a coordinator finds in its job's store.
#include <string>

#include "actors/control/job_state.h"
#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kEventsRead = 1000;  // at once

// What was taken from the budget failure.restarts since the job ended for the last time, and the
// failures that nobody has told to their end.
Status read_events(const storage::JobStore& store, JobHistory& history) {
  auto& restarts = history.restarts;
  std::uint64_t seen = 0;
  while (true) {
    auto events = store.events(seen, kEventsRead);
    if (!events) return fail(events.error());
    if (events->empty()) return {};
    for (const auto& event : *events) {
      if (event.kind() == "restart" || event.kind() == "disagreement" || event.kind() == "rollback")
        ++restarts;
      if (ends_a_run(event.kind())) restarts = 0;
      note_losses(history.open_losses, event);
    }
    seen = events->back().seq();
  }
}

// What the newest checkpoint with a readable manifest names.
Result<std::optional<std::string>> base_of(const storage::JobStore& store,
                                           const std::vector<CheckpointId>& checkpoints) {
  for (auto id = checkpoints.rbegin(); id != checkpoints.rend(); ++id) {
    const auto manifest = store.manifest(*id);
    if (manifest && !manifest->base_hash().empty()) return std::optional(manifest->base_hash());
    if (!manifest && manifest.error().code != Errc::corrupt) return fail(manifest.error());
  }
  return std::optional<std::string>();
}

// Every change so far: each is in the commit that it was decided with.
Status read_mixture(const storage::JobStore& store, const MixtureSpec& mixture,
                    JobHistory& history) {
  if (mixture.policy != MixturePolicy::adaptive) return {};
  const auto every = mixture.adapt_every_steps;
  for (auto step = every - kMixtureLead; step <= history.last_commit; step += every) {
    bool found = false;
    CRABCAST_TRY(store.for_each_commit(Step{step - 1}, [&](const pb::CommitRecord& commit) {
      found = commit.has_mixture();
      if (found) history.mixture.push_back(commit.mixture());
      return false;
    }));
    if (!found)
      return fail(Errc::corrupt,
                  "the ledger has no change of the mixture at step " + std::to_string(step));
  }
  auto window =
      losses_between(store, last_decision(history.last_commit, every), history.last_commit);
  if (!window) return fail(window.error());
  history.window = std::move(*window);
  return {};
}

}  // namespace

Result<JobHistory> read_history(const storage::JobStore& store, const MixtureSpec& mixture) {
  JobHistory history;
  auto last = store.last_commit();
  if (!last) return fail(last.error());
  if (*last) {
    history.last_commit = (*last)->step();
    history.last_skipped = (*last)->skipped();
    history.last_generation = (*last)->generation();
  }
  auto generation = store.value(kGenerationKey);
  if (!generation) return fail(generation.error());
  if (*generation) history.generation = std::strtoull((*generation)->c_str(), nullptr, 10);
  // Their ids only: one whose manifest is damaged must not keep the others from being used.
  auto checkpoints = store.checkpoint_ids();
  if (!checkpoints) return fail(checkpoints.error());
  for (const auto& id : *checkpoints) history.checkpoints.insert(id.value());
  auto base = base_of(store, *checkpoints);
  if (!base) return fail(base.error());
  history.base_hash = std::move(*base);
  auto evaluations = store.evaluations();
  if (!evaluations) return fail(evaluations.error());
  for (const auto& record : *evaluations) history.evaluated.insert(record.checkpoint());
  CRABCAST_TRY(read_events(store, history));
  auto quarantined = store.quarantine();
  if (!quarantined) return fail(quarantined.error());
  history.quarantined = std::move(*quarantined);
  CRABCAST_TRY(store.for_each_commit(Step{0}, [&](const pb::CommitRecord& first) {
    if (first.has_corpus()) history.corpus = first.corpus();
    return false;
  }));
  CRABCAST_TRY(read_mixture(store, mixture, history));
  auto rollbacks = store.value(kRollbacksKey);
  if (!rollbacks) return fail(rollbacks.error());
  if (*rollbacks && !history.rollbacks.ParseFromString(**rollbacks))
    return fail(Errc::corrupt, "value/rollbacks is not what a coordinator writes");
  auto losses = losses_for_watch(store, history.last_commit);
  if (!losses) return fail(losses.error());
  history.losses = std::move(*losses);
  return history;
}

}  // namespace crabcast::actors
