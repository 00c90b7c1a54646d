// LoRA (Hu et al. 2021, arXiv 2106.09685): a frozen linear layer plus a product of low rank,
//
//     y = W x + b + scale * B A dropout(x)
//
// Shapes: T tokens, I inputs, O outputs, R rank.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ilora.h"

namespace crabcast::model {

// dropout(x) A^T. Keeps x, and drops the same elements again in the backward pass.
at::Tensor dropped_product(const at::Tensor& x_TI, const at::Tensor& A_RI, const Dropout& dropout);

// The layer with its adapter, which has one head and no router. bias_O may be undefined. Gradients
// reach x, A and B; these may be float32 while x and W are bfloat16.
at::Tensor lora_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                       const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout);

}  // namespace crabcast::model
