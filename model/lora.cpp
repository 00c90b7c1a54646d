#include "model/lora.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace crabcast::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class DroppedProductFunction : public torch::autograd::Function<DroppedProductFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& A,
                            const Dropout& drop) {
    ctx->save_for_backward({x, A});
    ctx->saved_data["rate"] = drop.rate;
    ctx->saved_data["key"] = static_cast<std::int64_t>(drop.key);
    return at::mm(dropout(x, drop), A.t());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x_TI = saved[0], &A_RI = saved[1], &dz_TR = grads[0];
    const Dropout drop{ctx->saved_data["rate"].toDouble(),
                       static_cast<std::uint64_t>(ctx->saved_data["key"].toInt())};
    at::Tensor dx_TI;
    if (ctx->needs_input_grad(0)) dx_TI = dropout(at::mm(dz_TR, A_RI), drop);
    return {dx_TI, at::mm(dz_TR.t(), dropout(x_TI, drop)), at::Tensor()};
  }
};

}  // namespace

at::Tensor dropped_product(const at::Tensor& x_TI, const at::Tensor& A_RI, const Dropout& dropout) {
  return DroppedProductFunction::apply(x_TI, A_RI, dropout);
}

at::Tensor lora_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                       const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout) {
  const at::ScalarType type = x_TI.scalar_type();
  const at::Tensor z_TR = dropped_product(x_TI, adapter.lora_A_RI.to(type), dropout);
  return at::addmm(at::linear(x_TI, weight_OI, bias_O), z_TR, adapter.lora_B_NOR[0].to(type).t(), 1,
                   adapter.scale);
}

}  // namespace crabcast::model
