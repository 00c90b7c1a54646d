#include "model/linear.h"

#include <ATen/ATen.h>

#include "model/random.h"

namespace crabcast::model {

Linear make_linear(const WeightMap& weights, const AdapterSet* adapters, const std::string& module,
                   Bias bias) {
  Linear layer;
  layer.weight_OI = weights.at(module + ".weight");
  if (bias == Bias::yes) layer.bias_O = weights.at(module + ".bias");
  if (adapters != nullptr) layer.adapter = adapters->find(module);
  return layer;
}

at::Tensor apply(const Linear& layer, const at::Tensor& x_TI, const Pass& pass) {
  if (layer.adapter == nullptr) return at::linear(x_TI, layer.weight_OI, layer.bias_O);
  if (pass.touched != nullptr) (*pass.touched)[layer.adapter->module] = true;
  const Dropout dropout{pass.dropout, combine_key(pass.key, layer.adapter->key)};
  return ilora_linear(x_TI, layer.weight_OI, layer.bias_O, *layer.adapter, dropout);
}

at::Tensor swiglu(const Linear& gate, const Linear& up, const Linear& down, const at::Tensor& x_TD,
                  const Pass& pass) {
  return apply(down, at::silu(apply(gate, x_TD, pass)) * apply(up, x_TD, pass), pass);
}

}  // namespace crabcast::model
