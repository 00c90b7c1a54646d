// What a coordinator finds in its job's store.
#include <set>
#include <string>

#include "actors/control/job_state.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kEventsRead = 1000;  // at once

// What was taken from the budget failure.restarts since the job ended for the last time.
Result<std::uint32_t> count_restarts(const storage::JobStore& store) {
  static const std::set<std::string> ends = {"job_stopped", "job_failed", "job_cancelled",
                                             "job_succeeded"};
  std::uint32_t restarts = 0;
  std::uint64_t seen = 0;
  while (true) {
    auto events = store.events(seen, kEventsRead);
    if (!events) return fail(events.error());
    if (events->empty()) return restarts;
    for (const auto& event : *events) {
      if (event.kind() == "restart" || event.kind() == "disagreement") ++restarts;
      if (ends.contains(event.kind())) restarts = 0;
    }
    seen = events->back().seq();
  }
}

}  // namespace

Result<JobHistory> read_history(const storage::JobStore& store) {
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
  auto evaluations = store.evaluations();
  if (!evaluations) return fail(evaluations.error());
  for (const auto& record : *evaluations) history.evaluated.insert(record.checkpoint());
  auto restarts = count_restarts(store);
  if (!restarts) return fail(restarts.error());
  history.restarts = *restarts;
  return history;
}

}  // namespace crabcast::actors
