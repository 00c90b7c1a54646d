// The element-wise part of I-LoRA: the router's softmax and the mixing of the heads.
//
// One pass over each token: a loop on a CPU, one kernel on a GPU (cuda/gate.cu). Sums and the
// softmax are in float32 (float64 for float64); each result is rounded once to its type.
//
// Shapes: T tokens, N heads, R rank, C = N * R. z, logits and gradients have one type: float32,
// float64 or bfloat16. p is float32 (float64 for float64). All are contiguous.
#pragma once

#include <ATen/core/Tensor.h>

namespace crabcast::model {

// p = softmax(logits)
at::Tensor route(const at::Tensor& logits_TN);

// c = [p_1 z, .., p_N z]
at::Tensor gate(const at::Tensor& p_TN, const at::Tensor& z_TR);

struct GateGradient {
  at::Tensor dz_TR, dlogits_TN;
};
// From the gradient of c, times `scale`, through the gate and the softmax.
GateGradient gate_backward(const at::Tensor& dc_TC, const at::Tensor& p_TN, const at::Tensor& z_TR,
                           double scale);

}  // namespace crabcast::model
