// Dropout whose mask is a function of a key: no generator with a state, the same bits on every
// device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace crabcast::model {

// Which elements are dropped is a function of the key and the element's index only.
struct Dropout {
  double rate = 0;  // in [0, 1); rounded to a multiple of 2^-16
  std::uint64_t key = 0;
};

// x with dropped elements set to zero and the others scaled by 1 / (1 - rate); x itself at rate 0.
// x is float32, float64 or bfloat16. Not differentiable: the gradient of x is dropout of the
// gradient of the result.
at::Tensor dropout(const at::Tensor& x, const Dropout& dropout);

// sum += dropout(x), with the same bits and, on the host, without a tensor between. Both are
// contiguous, of one shape and type.
void add_dropped_(at::Tensor& sum, const at::Tensor& x, const Dropout& dropout);

}  // namespace crabcast::model
