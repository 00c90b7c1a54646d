#include "model/ilora.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "model/gate.h"

namespace crabcast::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The adapter's tensors in the type that x has.
struct Factors {
  Factors(const at::Tensor& x, const at::Tensor& lora_A, const at::Tensor& lora_B,
          const at::Tensor& lora_route)
      : heads(lora_B.size(0)),
        rank(lora_B.size(2)),
        A_RI(lora_A.to(x.scalar_type())),
        route_NI(lora_route.to(x.scalar_type())),
        B_OC(lora_B.to(x.scalar_type()).permute({1, 0, 2}).reshape({-1, heads * rank})) {}
  std::int64_t heads, rank;
  at::Tensor A_RI, route_NI, B_OC;  // C = N * R: the B side by side
};

struct Product {
  at::Tensor y_TO, p_TN, z_TR;
};

Product forward_product(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                        const at::Tensor& bias_O, const Factors& f, double scale,
                        const Dropout& drop, Output output) {
  Product out;
  out.p_TN = route(at::mm(x_TI, f.route_NI.t()));
  out.z_TR = at::mm(dropout(x_TI, drop), f.A_RI.t());
  if (output == Output::unread) {
    out.y_TO = at::empty({x_TI.size(0), weight_OI.size(0)}, x_TI.options());
    return out;
  }
  out.y_TO =
      bias_O.defined() ? at::addmm(bias_O, x_TI, weight_OI.t()) : at::mm(x_TI, weight_OI.t());
  out.y_TO.addmm_(gate(out.p_TN, out.z_TR), f.B_OC.t(), 1, scale);
  return out;
}

// Not arguments of their own, because they get no gradient and autograd takes no undefined bias.
struct FrozenLayer {
  at::Tensor weight_OI, bias_O;
};

class ILoraFunction : public torch::autograd::Function<ILoraFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& lora_A,
                            const at::Tensor& lora_B, const at::Tensor& lora_route,
                            const FrozenLayer& frozen, double scale, const Dropout& drop,
                            Output output) {
    const Factors factors(x, lora_A, lora_B, lora_route);
    const Product product =
        forward_product(x, frozen.weight_OI, frozen.bias_O, factors, scale, drop, output);
    ctx->save_for_backward(
        {x, lora_A, lora_B, lora_route, frozen.weight_OI, product.p_TN, product.z_TR});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["rate"] = drop.rate;
    ctx->saved_data["key"] = static_cast<std::int64_t>(drop.key);
    return product.y_TO;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x_TI = saved[0], &weight_OI = saved[4], &p_TN = saved[5], &z_TR = saved[6];
    const Factors f(x_TI, saved[1], saved[2], saved[3]);
    const double scale = ctx->saved_data["scale"].toDouble();
    const Dropout drop{ctx->saved_data["rate"].toDouble(),
                       static_cast<std::uint64_t>(ctx->saved_data["key"].toInt())};
    const at::Tensor dy_TO = grads[0].contiguous();

    at::Tensor dB_OC = at::empty_like(f.B_OC);
    dB_OC.addmm_(dy_TO.t(), gate(p_TN, z_TR), /*beta=*/0, scale);
    const at::Tensor dB_NOR = dB_OC.view({-1, f.heads, f.rank}).permute({1, 0, 2});
    const auto [dz_TR, dlogit_TN] = gate_backward(at::mm(dy_TO, f.B_OC), p_TN, z_TR, scale);
    const at::Tensor droute_NI = at::mm(dlogit_TN.t(), x_TI);
    at::Tensor dropped_TI = dropout(x_TI, drop);
    const at::Tensor dA_RI = at::mm(dz_TR.t(), dropped_TI);

    at::Tensor dx_TI;
    if (ctx->needs_input_grad(0)) {
      dx_TI = at::mm(dy_TO, weight_OI);
      dx_TI.addmm_(dlogit_TN, f.route_NI);
      if (dropped_TI.is_same(x_TI)) {  // nothing is dropped
        dx_TI.addmm_(dz_TR, f.A_RI);
      } else {
        at::mm_out(dropped_TI, dz_TR, f.A_RI);  // in its place: a fresh tensor costs page faults
        add_dropped_(dx_TI, dropped_TI, drop);
      }
    }
    return {dx_TI,
            dA_RI.to(saved[1].scalar_type()),
            dB_NOR.to(saved[2].scalar_type()),
            droute_NI.to(saved[3].scalar_type()),
            at::Tensor(),
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor ilora_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                        const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout,
                        Output output) {
  if (at::GradMode::is_enabled())
    return ILoraFunction::apply(x_TI, adapter.lora_A_RI, adapter.lora_B_NOR, adapter.lora_route_NI,
                                FrozenLayer{weight_OI, bias_O}, adapter.scale, dropout, output);
  const Factors factors(x_TI, adapter.lora_A_RI, adapter.lora_B_NOR, adapter.lora_route_NI);
  return forward_product(x_TI, weight_OI, bias_O, factors, adapter.scale, dropout, output).y_TO;
}

}  // namespace crabcast::model
