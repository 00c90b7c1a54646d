// Which checkpoints a policy keeps, and why. Pure: the store adds what is in use or pinned, and the
// newest that verifies (C-2).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/ids.h"
#include "protocol/job_spec.h"

namespace crabcast::storage {

// A checkpoint is kept when any of these says so.
struct RetentionPolicy {
  std::uint32_t last = 3;  // newest ones; at least 1
  std::uint32_t best = 1;
  std::string by = "eval/mean";  // key of CheckpointManifest.metrics; higher is better
  std::optional<std::uint64_t> every_steps = {};  // those whose step is a multiple of it
  std::optional<double> interval_seconds = {};    // since the one that was kept for it before
};
RetentionPolicy retention_of(const CheckpointSpec& spec);

// What a policy looks at.
struct RetentionCandidate {
  CheckpointId id;
  std::int64_t unix_ms = 0;
  std::optional<double> score;  // the metric `by`; nothing: not measured
  bool damaged = false;         // counts for nothing, so that it takes no good one's place
};

// Why each is kept, in words such as "last 3"; nothing: it is to be deleted.
using Reasons = std::map<CheckpointId, std::vector<std::string>>;

// `candidates` in order of their ids. Those that are kept stay kept when the others are gone.
Reasons kept_by(const RetentionPolicy& policy, const std::vector<RetentionCandidate>& candidates);

}  // namespace crabcast::storage
