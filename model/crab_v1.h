// The adapter of Crab's first version (arXiv 2503.13068): I-LoRA whose heads each drop other
// inputs,
//
//     y = W x + b + scale * sum_i p_i(x) * B_i A dropout_i(x),      p(x) = softmax(R x) in float32
//
// so A's product is made once for each head. Without dropout it is I-LoRA.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ilora.h"

namespace crabcast::model {

// Head i drops with the key combine_key(dropout.key, i). Gradients and types as in ilora_linear.
at::Tensor crab_v1_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                          const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout);

}  // namespace crabcast::model
