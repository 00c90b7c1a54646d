// A projection: weight, optional bias, optional adapter.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "model/adapter.h"
#include "model/weights.h"

namespace crabcast::model {

// What one forward pass wants from the adapters.
struct Pass {
  double dropout = 0;     // 0 outside of training
  std::uint64_t key = 0;  // of (seed, step, lane)
};

// Of a training step: masks depend on seed, step, lane and module only.
Pass training_pass(double dropout, std::uint64_t seed, std::uint64_t step, std::uint32_t lane);

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

// x_TI -> y_TO
at::Tensor apply(const Linear& layer, const at::Tensor& x_TI, const Pass& pass);

// down(silu(gate(x)) * up(x))
at::Tensor swiglu(const Linear& gate, const Linear& up, const Linear& down, const at::Tensor& x_TD,
                  const Pass& pass);

}  // namespace crabcast::model
