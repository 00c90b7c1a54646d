// A tensor with a name, as checkpoints and safetensors files hold them.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace crabcast::model {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;  // contiguous, host
};

}  // namespace crabcast::model
