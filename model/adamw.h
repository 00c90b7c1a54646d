// AdamW with decoupled weight decay, clipping by the norm and a schedule, over one flat buffer.
//
// The buffer holds many tensors. A tensor that had no gradient in a step is left alone, its step
// counter too, as torch.optim does. The update is elementwise: how tensors are grouped changes no
// bit.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "protocol/job_spec.h"

namespace crabcast::model {

// Rate of step `step` (from 1) of `steps`: linear warm-up from 0 over the first ceil(steps *
// warmup) steps, then cosine to 0 or constant. So with warm-up the first step has rate 0.
double learning_rate(const OptimizerSpec& spec, std::uint64_t step, std::uint64_t steps);

// What a gradient of this norm is multiplied with: min(1, limit / (norm + 1e-6)); 1 at limit 0.
double clip_factor(double norm, double limit);

// What training changes, each flat and float32, on one device.
struct TrainedBuffers {
  at::Tensor parameters, exp_avg, exp_avg_sq;
};

class AdamW {
 public:
  // `offsets`: element range of each tensor, tensors + 1 entries.
  AdamW(const OptimizerSpec& spec, std::vector<std::int64_t> offsets, at::TensorOptions options);

  // One step on the tensors with touched[i]. `gradient` is multiplied by `gradient_scale` first.
  // Both are flat float32 on the device of the moments.
  void step(const at::Tensor& parameters, const at::Tensor& gradient, double gradient_scale,
            const std::vector<bool>& touched, double rate);
  // The same bits, on the host, but in other buffers: `parameters` and the moments stay as they
  // are, and `into` holds the moments from now on.
  void step_into(const TrainedBuffers& into, const at::Tensor& parameters,
                 const at::Tensor& gradient, double gradient_scale,
                 const std::vector<bool>& touched, double rate);
  void take_moments(const TrainedBuffers& buffers);

  [[nodiscard]] const at::Tensor& exp_avg() const { return exp_avg_; }
  [[nodiscard]] const at::Tensor& exp_avg_sq() const { return exp_avg_sq_; }
  // Steps that each tensor has made.
  [[nodiscard]] std::vector<std::int64_t>& steps() { return steps_; }
  [[nodiscard]] const std::vector<std::int64_t>& steps() const { return steps_; }

 private:
  // Neighbouring tensors that make their step together: [first, end), and whether they make any.
  struct Run {
    std::size_t first, end;
    bool touched;
  };
  Run next_run(std::size_t first, const std::vector<bool>& touched);

  OptimizerSpec spec_;
  std::vector<std::int64_t> offsets_;
  at::Tensor exp_avg_, exp_avg_sq_;
  std::vector<std::int64_t> steps_;
};

}  // namespace crabcast::model
