// One worker's or evaluator's model: base, adapter, optimizer. What actors/compute calls.
//
// Concurrency: one thread at a time; state() and load_state() count as use. Randomness comes only
// from the arguments (job seed, step, lane), so equal calls give equal bits on the same machine
// with the same thread count.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/feature_store.h"
#include "model/generation.h"
#include "model/input.h"
#include "model/named_tensor.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

struct SessionOptions {
  ModelSpec model;  // its base as open_base takes it
  OptimizerSpec optimizer;
  std::uint64_t seed = 1;   // adapter initialization, dropout
  std::uint64_t steps = 1;  // length of the schedule
  Precision precision = Precision::float32;
  Recompute recompute = Recompute::none;
  std::int64_t pack_tokens = 0;  // limit of a pack (packs.h); 0: a lane is one pack
  std::string device = "cpu";    // "cpu" or "cuda:0"
  // Keeps what the towers make of media; only where nothing in them is trained.
  std::shared_ptr<FeatureStore> features = nullptr;
  int threads = 1;           // LibTorch intra-op threads, fixed for bitwise equality
  bool with_adapter = true;  // false: the base alone, which can only generate and be evaluated
};

struct Base;

struct SampleLoss {
  double loss_sum = 0;  // nats over the sample's answer tokens
  std::int64_t tokens = 0;
};

// One lane's contribution to a step. The gradient is that of the SUM of token losses, not a mean:
// the caller divides by the answer tokens of the whole global batch.
struct LaneResult {
  std::vector<SampleLoss> samples;  // in batch order
  // float32 [parameters], flat, in parameter order, on the session's device
  at::Tensor gradient;
  std::vector<bool> touched;  // for each parameter tensor: had a gradient
  double forward_seconds = 0, backward_seconds = 0;
};

class Session {
 public:
  static Result<std::unique_ptr<Session>> open(const SessionOptions& options);
  // The same on a base in memory, in the type and on the device that the options say; their name of
  // a base is not used.
  static Result<std::unique_ptr<Session>> open(const SessionOptions& options, Base base,
                                               BaseFrontEnd front_end);
  virtual ~Session() = default;

  [[nodiscard]] virtual const std::string& base_hash() const = 0;
  [[nodiscard]] virtual std::int64_t parameters() const = 0;  // trainable elements
  [[nodiscard]] virtual std::size_t parameter_tensors() const = 0;
  // Element range of each parameter tensor in the flat gradient: offsets, size + 1 entries.
  [[nodiscard]] virtual const std::vector<std::int64_t>& parameter_offsets() const = 0;

  virtual Result<LaneResult> lane_gradient(const ModelInput& input, std::uint64_t step,
                                           std::uint32_t lane) = 0;
  // Loss without gradient and without dropout.
  virtual Result<std::vector<SampleLoss>> evaluate_loss(const ModelInput& input) = 0;

  // L2 norm of `gradient` / `tokens`, summed tensor by tensor in a fixed order. A gradient may lie
  // on the host or on the session's device, here and in apply_update.
  [[nodiscard]] virtual double gradient_norm(const at::Tensor& gradient, double tokens) const = 0;
  // AdamW with clipping and schedule: gradient / tokens; `touched` tensors only.
  // `step` counts from 1. The rate used is returned.
  virtual double apply_update(const at::Tensor& gradient, double tokens,
                              const std::vector<bool>& touched, std::uint64_t step) = 0;
  [[nodiscard]] virtual double learning_rate(std::uint64_t step) const = 0;
  // The schedule's length, where it is known only after `open` (train.epochs). At least 1.
  virtual void set_schedule_steps(std::uint64_t steps) = 0;
  // XXH3-64 of all trainable parameters, in parameter order.
  [[nodiscard]] virtual std::uint64_t parameter_checksum() const = 0;

  // What a job begins with: model.adapter.init in place of the start that was drawn; without one
  // nothing happens. invalid_argument: it is of another base, kind, rank or scope; all that
  // differs.
  virtual Status load_initial_adapter() = 0;
  // Everything that a checkpoint or a joining peer needs, in host memory, as it is now: parameters
  // ("adapter/NAME", names as Crab+ publishes them), moments ("optimizer/NAME.exp_avg",
  // ".exp_avg_sq", ".step"). Nobody may write to it. On the host it is no copy: while somebody
  // holds it, the next update goes to other buffers, which takes the same memory and hardly more
  // time.
  [[nodiscard]] virtual std::vector<NamedTensor> state() const = 0;
  // Strict: corrupt names every missing, surplus or misshapen tensor. `adapter_only` for
  // evaluators.
  virtual Status load_state(const std::vector<NamedTensor>& tensors, bool adapter_only) = 0;

  // An answer for each sample of a batch of prompts. Errors as those of model::generate.
  virtual Result<std::vector<Generated>> generate(const ModelInput& prompts,
                                                  const GenerationOptions& options) = 0;
  [[nodiscard]] virtual const BaseFrontEnd& front_end() const = 0;
};

}  // namespace crabcast::model
