// Which sample sits in which slot of which step (invariants S-1 and S-2). Pure: no I/O, no clock,
// no state that a resume would have to replay; everything is a function of (plan, step, slot).
//
// task_balanced: each global batch gets the same number of samples of each task, up to one, and the
// long run is exact: after every 7 slots each task was served once (largest remainder carried on).
// Within a task, data sets share in proportion to their sizes by the same rule. proportional: data
// sets share in proportion to their sizes. Order within a data set: a seeded permutation with random
// access (Feistel network with cycle walking), a new one each epoch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "protocol/job_spec.h"
#include "protocol/tasks.h"

namespace crabcast::data {

struct SourceSize {
  std::uint32_t dataset = 0;   // row in data/datasets.h
  Task task{};
  std::uint64_t samples = 0;   // train split, at least 1
};

struct SamplerPlan {
  MixturePolicy policy = MixturePolicy::task_balanced;
  std::vector<SourceSize> sources;
  std::uint64_t seed = 1;
  std::uint32_t global_batch = 8;
};

struct Draw {
  std::uint32_t dataset = 0;
  std::uint64_t index = 0;     // position in the train split
  std::uint64_t epoch = 0;     // of that data set
};

class Sampler {
 public:
  // data_error when a source is empty or a chosen task has none; names it.
  static Result<Sampler> create(SamplerPlan plan);
  // The samples of a step (from 1), in slot order. O(global_batch), whatever the step.
  [[nodiscard]] std::vector<Draw> batch(std::uint64_t step) const;
  // The sample at a running slot number (from 0) = (step - 1) * global_batch + slot.
  [[nodiscard]] Draw at(std::uint64_t slot) const;
  // Steps until every sample of the corpus was due `epochs` times, rounded up: how `train.epochs`
  // becomes a number of steps.
  [[nodiscard]] std::uint64_t steps_for_epochs(double epochs) const;

 private:
  SamplerPlan plan_;
  struct Schedule;
  std::vector<std::vector<std::uint32_t>> order_;   // implementation may change
};

}  // namespace crabcast::data
