// The tensors of a frozen base, by their published names.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "model/config.h"
#include "protocol/error.h"

namespace crabcast::model {

// Never requires gradients.
using WeightMap = std::map<std::string, at::Tensor>;

// The weights of `nano`, float32 on the host: a fixed function of their names, with the same bits
// on every machine.
WeightMap make_nano_weights();

// XXH3-128, in hex, over names, shapes and bytes, in the order of weight_shapes.
// corrupt names a tensor that is missing or has another shape.
Result<std::string> hash_base(const ThinkerConfig& config, const WeightMap& weights);

}  // namespace crabcast::model
