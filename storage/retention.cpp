#include "storage/retention.h"

#include <algorithm>
#include <cmath>

#include "protocol/format.h"

namespace crabcast::storage {
namespace {

void keep_last(const RetentionPolicy& policy, const std::vector<RetentionCandidate>& good,
               Reasons& kept) {
  const std::size_t count = std::min<std::size_t>(std::max(policy.last, 1U), good.size());
  for (std::size_t i = good.size() - count; i < good.size(); ++i)
    kept[good[i].id].push_back("last " + std::to_string(policy.last));
}

void keep_best(const RetentionPolicy& policy, const std::vector<RetentionCandidate>& good,
               Reasons& kept) {
  std::vector<std::pair<double, CheckpointId>> ranked;
  for (const RetentionCandidate& one : good)
    if (one.score && !std::isnan(*one.score)) ranked.emplace_back(*one.score, one.id);
  std::sort(ranked.rbegin(), ranked.rend());  // of equal scores the newer one
  ranked.resize(std::min<std::size_t>(policy.best, ranked.size()));
  for (const auto& [score, id] : ranked)
    kept[id].push_back("best " + std::to_string(policy.best) + " by " + policy.by);
}

void keep_every(std::uint64_t steps, const std::vector<RetentionCandidate>& good, Reasons& kept) {
  for (const RetentionCandidate& one : good)
    if (one.id.value() % steps == 0)
      kept[one.id].push_back("every " + std::to_string(steps) + " steps");
}

// One that is kept is the first which is old enough, so it stays the first when those between are
// gone. A clock that went back begins a new interval.
void keep_interval(double interval, const std::vector<RetentionCandidate>& good, Reasons& kept) {
  std::optional<std::int64_t> before;
  for (const RetentionCandidate& one : good) {
    if (before) {
      const double waited = static_cast<double>(one.unix_ms - *before) / 1000;
      if (waited >= 0 && waited < interval) continue;
    }
    before = one.unix_ms;
    kept[one.id].push_back("one in " + format_duration(interval));
  }
}

}  // namespace

RetentionPolicy retention_of(const CheckpointSpec& spec) {
  return {spec.keep_last, spec.keep_best, spec.keep_by, spec.keep_every_steps,
          spec.keep_interval_seconds};
}

Reasons kept_by(const RetentionPolicy& policy, const std::vector<RetentionCandidate>& candidates) {
  std::vector<RetentionCandidate> good = candidates;
  std::erase_if(good, [](const RetentionCandidate& one) { return one.damaged; });
  Reasons kept;
  keep_last(policy, good, kept);
  keep_best(policy, good, kept);
  if (policy.every_steps) keep_every(*policy.every_steps, good, kept);
  if (policy.interval_seconds) keep_interval(*policy.interval_seconds, good, kept);
  return kept;
}

}  // namespace crabcast::storage
