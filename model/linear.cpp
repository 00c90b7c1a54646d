#include "model/linear.h"

#include <ATen/ATen.h>

#include "model/crab_v1.h"
#include "model/lora.h"
#include "model/random.h"

namespace crabcast::model {

Pass training_pass(double dropout, std::uint64_t seed, std::uint64_t step, std::uint32_t lane,
                   std::uint32_t pack) {
  const std::uint64_t place = (static_cast<std::uint64_t>(pack) << 32) | lane;
  return {.dropout = dropout,
          .key = combine_key(combine_key(combine_key(seed, name_key("dropout")), step), place)};
}

Linear make_linear(const WeightMap& weights, const AdapterSet* adapters, const std::string& module,
                   Bias bias) {
  Linear layer;
  layer.weight_OI = weights.at(module + ".weight");
  if (bias == Bias::yes) layer.bias_O = weights.at(module + ".bias");
  if (adapters != nullptr) layer.adapter = adapters->find(module);
  return layer;
}

bool is_trained(const Linear& layer) {
  return layer.adapter != nullptr || layer.weight_OI.requires_grad();
}

at::Tensor apply(const Linear& layer, const at::Tensor& x_TI, const Pass& pass, Output output) {
  const auto& [weight_OI, bias_O, adapter] = layer;
  if (adapter == nullptr) return at::linear(x_TI, weight_OI, bias_O);
  const Dropout dropout{pass.dropout, combine_key(pass.key, adapter->key)};
  switch (adapter->kind) {
    case AdapterKind::ilora:
      return ilora_linear(x_TI, weight_OI, bias_O, *adapter, dropout, output);
    case AdapterKind::crab_v1:
      return crab_v1_linear(x_TI, weight_OI, bias_O, *adapter, dropout);
    case AdapterKind::lora:
      return lora_linear(x_TI, weight_OI, bias_O, *adapter, dropout);
    case AdapterKind::full:
      break;  // has no adapters beside the weights
  }
  TORCH_CHECK(false, "a layer with an adapter of no kind");
}

at::Tensor swiglu(const Linear& gate, const Linear& up, const Linear& down, const at::Tensor& x_TD,
                  const Pass& pass, Output output) {
  return apply(down, at::silu(apply(gate, x_TD, pass)) * apply(up, x_TD, pass), pass, output);
}

}  // namespace crabcast::model
