// Sums the lane gradients of all members of a generation, in the way that the spec asks for.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <vector>

#include "cluster/collective.h"
#include "cluster/ordered_reduction.h"
#include "model/session.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

// What a step needs besides the gradient; equal on every member after `finish`.
struct StepTotals {
  std::int64_t tokens = 0;    // answer tokens of the global batch
  std::vector<bool> touched;  // parameter tensors that some lane touched
  bool finite = true;
};

// One step's sum. Call add_lane for each own lane in order, then finish.
class GradientExchange {
 public:
  GradientExchange(ReductionKind kind, std::uint32_t lanes,
                   std::vector<cluster::LaneRange> owned_by_rank, std::uint32_t rank,
                   std::size_t elements, std::size_t tensors);
  void add_lane(const model::LaneResult& lane);
  // Exchanges with the others. `gradient` receives the sum over all lanes, float32 [elements].
  Result<StepTotals> finish(cluster::Collective& collective, at::Tensor& gradient);

 private:
  Result<StepTotals> exchange_totals(cluster::Collective& collective) const;

  ReductionKind kind_;
  std::uint32_t lanes_;
  std::vector<cluster::LaneRange> owned_;
  std::uint32_t rank_;
  std::size_t elements_;
  cluster::SubtreeAccumulator sums_;
  at::Tensor plain_sum_;  // ring only
  StepTotals mine_;
};

}  // namespace crabcast::actors
