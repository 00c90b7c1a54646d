// I-LoRA: a frozen linear layer plus one shared A and several B, mixed by a router, for one token
// x:
//
//     y = W x + b + scale * sum_i p_i(x) * B_i A dropout(x),      p(x) = softmax(R x) in float32
//
// All heads are one product: with z = A dropout(x) and c = [p_1 z, .., p_N z], the sum is
// c [B_1 .. B_N]^T. The hand-written backward keeps x, p and z, so no tensor of tokens x out exists
// for a head, and W and b get no gradient.
//
// Shapes: T tokens, I inputs, O outputs, R rank, N heads.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/dropout.h"

namespace crabcast::model {

// Whether anybody reads what a layer puts out. Where it is called only for what its backward pass
// needs, because its output was computed before, the products of tokens x out are left undone.
enum class Output { read, unread };

struct ILora {
  at::Tensor lora_A_RI;  // shared
  at::Tensor lora_B_NOR;
  at::Tensor lora_route_NI;  // the router; sees x without dropout
  double scale = 1;          // alpha / rank
};

// The layer with its adapter. bias_O may be undefined. Gradients reach x and the three tensors of
// the adapter; these may be float32 while x and W are bfloat16. An unread output holds anything.
at::Tensor ilora_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                        const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout,
                        Output output = Output::read);

}  // namespace crabcast::model
