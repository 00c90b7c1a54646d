#include "model/crab_v1.h"

#include <ATen/ATen.h>

#include <vector>

#include "model/lora.h"
#include "model/random.h"

namespace crabcast::model {

at::Tensor crab_v1_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                          const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout) {
  const at::ScalarType type = x_TI.scalar_type();
  const at::Tensor A_RI = adapter.lora_A_RI.to(type), route_NI = adapter.lora_route_NI.to(type);
  const at::Tensor B_NOR = adapter.lora_B_NOR.to(type);
  const at::Tensor logits_TN = at::mm(x_TI, route_NI.t());
  const at::Tensor p_TN =
      at::softmax(logits_TN, -1, type == at::kDouble ? at::kDouble : at::kFloat).to(type);

  // c = [p_1 z_1, .., p_N z_N], so that all heads are one product with [B_1 .. B_N].
  std::vector<at::Tensor> c;
  for (std::int64_t i = 0; i < B_NOR.size(0); ++i) {
    const Dropout drop{dropout.rate, combine_key(dropout.key, static_cast<std::uint64_t>(i))};
    c.push_back(p_TN.narrow(1, i, 1) * dropped_product(x_TI, A_RI, drop));
  }
  const at::Tensor B_CO = B_NOR.transpose(1, 2).reshape({-1, B_NOR.size(1)});  // C = N * R
  return at::addmm(at::linear(x_TI, weight_OI, bias_O), at::cat(c, 1), B_CO, 1, adapter.scale);
}

}  // namespace crabcast::model
