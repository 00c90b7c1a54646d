#include "model/ops.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace crabcast::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor in_float(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    const at::Tensor x_TD = in_float(x);
    const at::Tensor scale_T1 = x_TD.square().mean(-1, true).add_(eps).rsqrt_();
    ctx->save_for_backward({x, weight, scale_T1});
    return x_TD.mul(scale_T1).to(x.scalar_type()).mul_(weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor x_TD = in_float(saved[0]), &scale_T1 = saved[2];
    const at::Tensor g_TD = in_float(grads[0] * saved[1]);
    // dx = s * g - x * s^3 * mean(g * x)
    const at::Tensor dot_T1 = (g_TD * x_TD).mean(-1, true).mul_(scale_T1.pow(3));
    at::Tensor dx = (g_TD * scale_T1).addcmul_(x_TD, dot_T1, -1);
    at::Tensor dweight_D;
    if (ctx->needs_input_grad(1))
      dweight_D = (in_float(grads[0]) * x_TD * scale_T1).sum(0).to(saved[1].scalar_type());
    return {dx.to(saved[0].scalar_type()), dweight_D, at::Tensor()};
  }
};

// direction +1 rotates, -1 rotates back: the transpose, which the gradient needs.
at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos_TF, const at::Tensor& sin_TF,
                         double direction) {
  const at::Tensor x_THE = x.to(cos_TF.scalar_type());
  const at::Tensor cos_T1F = cos_TF.unsqueeze(1), sin_T1F = sin_TF.unsqueeze(1);
  const std::int64_t half = x_THE.size(-1) / 2;
  const at::Tensor first = x_THE.narrow(-1, 0, half), second = x_THE.narrow(-1, half, half);
  at::Tensor y_THE = at::empty(x_THE.sizes(), x_THE.options());
  at::Tensor y_first = y_THE.narrow(-1, 0, half), y_second = y_THE.narrow(-1, half, half);
  at::mul_out(y_first, first, cos_T1F).addcmul_(second, sin_T1F, -direction);
  at::mul_out(y_second, second, cos_T1F).addcmul_(first, sin_T1F, direction);
  return y_THE.to(x.scalar_type());
}

class RotateFunction : public torch::autograd::Function<RotateFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotate_halves(x, cos, sin, 1);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    return {rotate_halves(grads[0], saved[0], saved[1], -1), at::Tensor(), at::Tensor()};
  }
};

// `count` segments of the same length, as one batched call.
at::Tensor equal_segments(const at::Tensor& q_THE, const at::Tensor& k_TKE, const at::Tensor& v_TKE,
                          std::int64_t count, std::int64_t length, Mask mask) {
  const auto batched = [&](const at::Tensor& x) {
    return x.view({count, length, x.size(1), x.size(2)}).transpose(1, 2);
  };
  const bool grouped = q_THE.size(1) != k_TKE.size(1);
  const at::Tensor out =
      at::scaled_dot_product_attention(batched(q_THE), batched(k_TKE), batched(v_TKE), std::nullopt,
                                       0.0, mask == Mask::causal, std::nullopt, grouped);
  return out.transpose(1, 2).reshape({count * length, -1});
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps) {
  return RmsNormFunction::apply(x_TD, weight_D, eps);
}

at::Tensor rotate(const at::Tensor& x_THE, const Rotary& rotary) {
  return RotateFunction::apply(x_THE, rotary.cos_TF, rotary.sin_TF);
}

at::Tensor inverse_frequencies(double base, std::int64_t width, at::Device device) {
  const at::Tensor exponents =
      at::arange(0, width, 2, at::TensorOptions(at::kFloat)) / static_cast<double>(width);
  return at::pow(at::Scalar(base), exponents).reciprocal_().to(device);
}

at::Tensor segment_attention(const at::Tensor& q_THE, const at::Tensor& k_TKE,
                             const at::Tensor& v_TKE, const std::vector<std::int64_t>& lengths,
                             Mask mask) {
  std::vector<at::Tensor> parts;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < lengths.size();) {
    std::size_t end = i + 1;
    while (end < lengths.size() && lengths[end] == lengths[i]) ++end;
    const auto count = static_cast<std::int64_t>(end - i);
    const std::int64_t rows = count * lengths[i];
    parts.push_back(equal_segments(q_THE.narrow(0, row, rows), k_TKE.narrow(0, row, rows),
                                   v_TKE.narrow(0, row, rows), count, lengths[i], mask));
    row += rows;
    i = end;
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
}

}  // namespace crabcast::model
