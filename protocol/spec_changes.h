// What differs between the spec that a job was begun with and the one that it is to go on with
// (docs/job-spec.md, "What may change when a job goes on"). Pure.
#pragma once

#include <string>
#include <vector>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast {

struct SpecChange {
  std::string field;          // for example train.lanes
  std::string before, after;  // as a spec file writes them; "not given"
  bool allowed = false;       // the job can go on in spite of it

  // "train.lanes: 4 in the checkpoint, 8 in the spec"
  [[nodiscard]] std::string text() const;
};

// Every field that differs, in the order of a printed spec.
std::vector<SpecChange> spec_changes(const JobSpec& before, const JobSpec& after);

// invalid_argument, with every change that is not allowed, when a state that was trained with
// `before` cannot go on with `after`.
Status check_resumable(const JobSpec& before, const JobSpec& after);

// The spec with other values, each given as FIELD=VALUE (train.optimizer.lr=2e-4), the value as a
// spec file writes it; FIELD= leaves the field out. invalid_spec names every mistake.
Result<JobSpec> with_changes(const JobSpec& spec, const std::vector<std::string>& changes);

}  // namespace crabcast
