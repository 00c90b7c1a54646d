// A projection: weight, optional bias, optional adapter.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "model/adapter.h"
#include "model/weights.h"

namespace crabcast::model {

class FeatureStore;

// What one forward pass wants from the layers.
struct Pass {
  double dropout = 0;                     // of the adapters; 0 outside of training
  std::uint64_t key = 0;                  // of (seed, step, lane, pack)
  Recompute recompute = Recompute::none;  // in the backward pass
  FeatureStore* features = nullptr;       // of towers that nothing trains; null: none is kept
};

// Of a training step: masks depend on seed, step, lane, pack of the lane and module only.
Pass training_pass(double dropout, std::uint64_t seed, std::uint64_t step, std::uint32_t lane,
                   std::uint32_t pack = 0);

struct Linear {
  at::Tensor weight_OI;
  at::Tensor bias_O;                       // may be undefined
  const ModuleAdapter* adapter = nullptr;  // owned by an AdapterSet that outlives the layer
};

enum class Bias { yes, no };

// The tensors MODULE.weight and MODULE.bias, and MODULE's adapter if it has one.
// Throws std::out_of_range for a name that the map lacks.
Linear make_linear(const WeightMap& weights, const AdapterSet* adapters, const std::string& module,
                   Bias bias);

// Whether a training step changes the layer or its adapter.
bool is_trained(const Linear& layer);

// x_TI -> y_TO. An output that is unread may hold anything.
at::Tensor apply(const Linear& layer, const at::Tensor& x_TI, const Pass& pass,
                 Output output = Output::read);

// down(silu(gate(x)) * up(x))
at::Tensor swiglu(const Linear& gate, const Linear& up, const Linear& down, const at::Tensor& x_TD,
                  const Pass& pass, Output output);

}  // namespace crabcast::model
