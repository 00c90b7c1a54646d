#include "model/ilora.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <torch/csrc/autograd/custom_function.h>

#include <bit>
#include <cmath>
#include <type_traits>

#include "model/random.h"

namespace crabcast::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One 64-bit draw decides four neighbouring elements, 16 bits each.
constexpr int kPerDraw = 4;

struct DropRule {
  explicit DropRule(double rate)
      : threshold(static_cast<std::uint32_t>(std::lround(rate * 65536))),
        keep_scale(static_cast<float>(65536.0 / (65536.0 - threshold))) {}
  std::uint32_t threshold;  // an element whose 16 bits are below is dropped
  float keep_scale;
};

// All bits set to keep an element, none to drop it: no branch that one element in ten mispredicts.
template <class T>
T masked(T value, bool keep) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  const auto mask = static_cast<Bits>(-static_cast<Bits>(keep));
  return std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(value) & mask));
}

template <class T>
void drop_on_host(const T* x, T* out, std::int64_t count, std::uint64_t key, DropRule rule) {
  const T scale = static_cast<T>(rule.keep_scale);
  const std::uint32_t threshold = rule.threshold;
  const std::int64_t whole = count / kPerDraw;
  for (std::int64_t draw = 0; draw < whole; ++draw, x += kPerDraw, out += kPerDraw) {
    const std::uint64_t bits = random_bits(key, static_cast<std::uint64_t>(draw));
    for (int i = 0; i < kPerDraw; ++i)
      out[i] = masked(static_cast<T>(x[i] * scale), ((bits >> (16 * i)) & 0xFFFF) >= threshold);
  }
  const std::uint64_t bits = random_bits(key, static_cast<std::uint64_t>(whole));
  for (std::int64_t i = 0; i < count % kPerDraw; ++i)
    out[i] = masked(static_cast<T>(x[i] * scale), ((bits >> (16 * i)) & 0xFFFF) >= threshold);
}

// The router's softmax runs in float32, also for bfloat16 inputs; float64 stays (for tests).
at::ScalarType router_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

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

// c = [p_1 z, .., p_N z]
at::Tensor gated(const at::Tensor& p_TN, const at::Tensor& z_TR) {
  const at::Tensor p_TN1 = p_TN.to(z_TR.scalar_type()).unsqueeze(2);
  return (p_TN1 * z_TR.unsqueeze(1)).view({z_TR.size(0), -1});
}

struct Product {
  at::Tensor y_TO, p_TN, z_TR;
};

Product forward_product(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                        const at::Tensor& bias_O, const Factors& f, double scale,
                        const Dropout& drop) {
  Product out;
  out.p_TN = at::softmax(at::mm(x_TI, f.route_NI.t()), -1, router_type(x_TI));
  out.z_TR = at::mm(dropout(x_TI, drop), f.A_RI.t());
  out.y_TO =
      bias_O.defined() ? at::addmm(bias_O, x_TI, weight_OI.t()) : at::mm(x_TI, weight_OI.t());
  out.y_TO.addmm_(gated(out.p_TN, out.z_TR), f.B_OC.t(), 1, scale);
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
                            const FrozenLayer& frozen, double scale, const Dropout& drop) {
    const Factors factors(x, lora_A, lora_B, lora_route);
    const Product product =
        forward_product(x, frozen.weight_OI, frozen.bias_O, factors, scale, drop);
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
    const std::int64_t tokens = x_TI.size(0);

    const at::Tensor dB_OC = at::mm(dy_TO.t(), gated(p_TN, z_TR)).mul_(scale);
    const at::Tensor dB_NOR = dB_OC.view({-1, f.heads, f.rank}).permute({1, 0, 2});

    const at::Tensor dc_TNR = at::mm(dy_TO, f.B_OC).mul_(scale).view({tokens, f.heads, f.rank});
    // Both contractions of dc are batched products over the token.
    const at::Tensor p_T1N = p_TN.to(x_TI.scalar_type()).unsqueeze(1);
    const at::Tensor dz_TR = at::bmm(p_T1N, dc_TNR).squeeze(1);
    const at::Tensor dp_TN = at::bmm(dc_TNR, z_TR.unsqueeze(2)).squeeze(2).to(p_TN.scalar_type());
    const at::Tensor weighted_TN = p_TN * dp_TN;
    const at::Tensor dlogit_TN =
        (weighted_TN - p_TN * weighted_TN.sum(1, true)).to(x_TI.scalar_type());
    const at::Tensor droute_NI = at::mm(dlogit_TN.t(), x_TI);
    const at::Tensor dA_RI = at::mm(dz_TR.t(), dropout(x_TI, drop));

    at::Tensor dx_TI;
    if (ctx->needs_input_grad(0)) {
      dx_TI = at::mm(dy_TO, weight_OI);
      dx_TI.addmm_(dlogit_TN, f.route_NI);
      dx_TI.add_(dropout(at::mm(dz_TR, f.A_RI), drop));
    }
    return {dx_TI,
            dA_RI.to(saved[1].scalar_type()),
            dB_NOR.to(saved[2].scalar_type()),
            droute_NI.to(saved[3].scalar_type()),
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

// random_bits in tensor operations, for devices that have no loop of ours: int64 arithmetic wraps
// as the unsigned one does, and a mask makes the arithmetic shift a logical one.
at::Tensor dropout_by_tensor_operations(const at::Tensor& x, const Dropout& dropout) {
  const DropRule rule(dropout.rate);
  const auto shift = [](const at::Tensor& v, int by) {
    const auto mask = static_cast<std::int64_t>(~0ULL >> by);
    return at::bitwise_and(at::bitwise_right_shift(v, by), mask);
  };
  const auto as_signed = [](std::uint64_t v) { return static_cast<std::int64_t>(v); };
  const std::int64_t draws = (x.numel() + kPerDraw - 1) / kPerDraw;
  at::Tensor v = at::arange(1, draws + 1, x.options().dtype(at::kLong));
  v = v * as_signed(kGoldenGamma) + as_signed(dropout.key);
  v = at::bitwise_xor(v, shift(v, 30)) * as_signed(0xBF58476D1CE4E5B9ULL);
  v = at::bitwise_xor(v, shift(v, 27)) * as_signed(0x94D049BB133111EBULL);
  v = at::bitwise_xor(v, shift(v, 31));
  const at::Tensor lanes = at::arange(0, 64, 16, v.options());
  const at::Tensor keep = at::bitwise_and(at::bitwise_right_shift(v.unsqueeze(1), lanes), 0xFFFF)
                              .ge(static_cast<std::int64_t>(rule.threshold))
                              .flatten()
                              .narrow(0, 0, x.numel())
                              .view(x.sizes());
  return at::where(keep, x * rule.keep_scale, at::zeros({}, x.options()));
}

at::Tensor dropout(const at::Tensor& x, const Dropout& dropout) {
  const DropRule rule(dropout.rate);
  if (rule.threshold == 0) return x;
  if (!x.device().is_cpu()) return dropout_by_tensor_operations(x, dropout);
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, in.scalar_type(), "dropout", [&] {
    drop_on_host(in.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(), in.numel(),
                 dropout.key, rule);
  });
  return out;
}

at::Tensor ilora_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                        const at::Tensor& bias_O, const ILora& adapter, const Dropout& dropout) {
  if (at::GradMode::is_enabled())
    return ILoraFunction::apply(x_TI, adapter.lora_A_RI, adapter.lora_B_NOR, adapter.lora_route_NI,
                                FrozenLayer{weight_OI, bias_O}, adapter.scale, dropout);
  const Factors factors(x_TI, adapter.lora_A_RI, adapter.lora_B_NOR, adapter.lora_route_NI);
  return forward_product(x_TI, weight_OI, bias_O, factors, adapter.scale, dropout).y_TO;
}

}  // namespace crabcast::model
