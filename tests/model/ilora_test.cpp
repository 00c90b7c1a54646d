#include "model/ilora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/adapter.h"
#include "model/random.h"

namespace crabcast::model {
namespace {

constexpr std::int64_t kTokens = 37, kIn = 24, kOut = 40, kRank = 5, kHeads = 3;
constexpr double kScale = 1.7;

struct Problem {
  at::Tensor x, weight, bias, probe;  // probe: the gradient that reaches y
  ILora adapter;
};

Problem make_problem(at::ScalarType type) {
  std::uint64_t key = 0;
  const auto random = [&](std::vector<std::int64_t> shape, bool trained) {
    at::Tensor tensor = at::empty(shape, at::kFloat);
    fill_uniform(tensor, ++key, 1.0);
    return tensor.to(type).set_requires_grad(trained);
  };
  Problem p;
  p.x = random({kTokens, kIn}, true);
  p.weight = random({kOut, kIn}, false);
  p.bias = random({kOut}, false);
  p.probe = random({kTokens, kOut}, false);
  p.adapter = {random({kRank, kIn}, true), random({kHeads, kOut, kRank}, true),
               random({kHeads, kIn}, true), kScale};
  return p;
}

// The definition, head by head, for autograd to differentiate.
at::Tensor plain_loop(const Problem& p, const Dropout& drop, bool with_bias) {
  const at::Tensor mask = dropout(at::ones_like(p.x).detach(), drop);
  at::Tensor y = at::matmul(p.x, p.weight.t());
  if (with_bias) y = y + p.bias;
  const at::Tensor share = at::softmax(at::matmul(p.x, p.adapter.lora_route_NI.t()), -1);
  for (std::int64_t head = 0; head < kHeads; ++head) {
    const at::Tensor low = at::matmul(p.x * mask, p.adapter.lora_A_RI.t());
    y = y + p.adapter.scale * share.narrow(1, head, 1) *
                at::matmul(low, p.adapter.lora_B_NOR[head].t());
  }
  return y;
}

struct Outcome {
  at::Tensor y, dx, dA, dB, droute;
};

Outcome differentiate(Problem& p, const at::Tensor& y) {
  const auto grads = torch::autograd::grad(
      {y}, {p.x, p.adapter.lora_A_RI, p.adapter.lora_B_NOR, p.adapter.lora_route_NI}, {p.probe});
  return {y.detach(), grads[0], grads[1], grads[2], grads[3]};
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

class ILoraAgainstLoop : public testing::TestWithParam<std::tuple<at::ScalarType, double, bool>> {};

TEST_P(ILoraAgainstLoop, ForwardAndBackwardAgree) {
  const auto [type, rate, with_bias] = GetParam();
  const double limit = type == at::kDouble ? 1e-10 : 1e-5;
  const Dropout drop{rate, 77};
  Problem p = make_problem(type);
  const at::Tensor bias = with_bias ? p.bias : at::Tensor();
  const Outcome collapsed = differentiate(p, ilora_linear(p.x, p.weight, bias, p.adapter, drop));
  const Outcome loop = differentiate(p, plain_loop(p, drop, with_bias));
  EXPECT_LT(distance(collapsed.y, loop.y), limit);
  EXPECT_LT(distance(collapsed.dx, loop.dx), limit);
  EXPECT_LT(distance(collapsed.dA, loop.dA), limit);
  EXPECT_LT(distance(collapsed.dB, loop.dB), limit);
  EXPECT_LT(distance(collapsed.droute, loop.droute), limit);
}

INSTANTIATE_TEST_SUITE_P(TypesAndRates, ILoraAgainstLoop,
                         testing::Combine(testing::Values(at::kDouble, at::kFloat),
                                          testing::Values(0.0, 0.3), testing::Bool()));

TEST(ILora, WithoutGradientsTheValueIsTheSame) {
  Problem p = make_problem(at::kFloat);
  const Dropout drop{0.2, 5};
  const at::Tensor trained = ilora_linear(p.x, p.weight, p.bias, p.adapter, drop);
  const at::NoGradGuard no_grad;
  const at::Tensor plain = ilora_linear(p.x, p.weight, p.bias, p.adapter, drop);
  EXPECT_FALSE(plain.requires_grad());
  EXPECT_TRUE(at::equal(trained.detach(), plain));
}

TEST(ILora, AnInputWithoutGradientStillTrainsTheAdapter) {
  Problem p = make_problem(at::kFloat);
  const at::Tensor y = ilora_linear(p.x.detach(), p.weight, p.bias, p.adapter, {});
  const auto grads = torch::autograd::grad({y}, {p.adapter.lora_A_RI}, {p.probe});
  EXPECT_GT(grads[0].norm().item<float>(), 0);
}

TEST(ILora, Bfloat16ComputesCloseToFloat32WithFloat32Parameters) {
  Problem p = make_problem(at::kFloat);
  const Outcome exact = differentiate(p, ilora_linear(p.x, p.weight, p.bias, p.adapter, {}));
  Problem half = make_problem(at::kFloat);
  half.x = half.x.detach().to(at::kBFloat16).set_requires_grad(true);
  half.probe = half.probe.to(at::kBFloat16);
  const Outcome rough =
      differentiate(half, ilora_linear(half.x, half.weight.to(at::kBFloat16),
                                       half.bias.to(at::kBFloat16), half.adapter, {}));
  EXPECT_EQ(rough.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(rough.dB.scalar_type(), at::kFloat);
  EXPECT_LT(distance(rough.y.to(at::kFloat), exact.y), 0.02);
  EXPECT_LT(distance(rough.dA, exact.dA), 0.03);
  EXPECT_LT(distance(rough.dB, exact.dB), 0.03);
}

TEST(Dropout, IsAFunctionOfTheKey) {
  const at::Tensor x = at::ones({1000, 33});
  const at::Tensor first = dropout(x, {0.1, 1});
  EXPECT_TRUE(at::equal(first, dropout(x, {0.1, 1})));
  EXPECT_FALSE(at::equal(first, dropout(x, {0.1, 2})));
  EXPECT_NEAR(first.eq(0).to(at::kFloat).mean().item<float>(), 0.1, 0.005);
  EXPECT_NEAR(first.mean().item<float>(), 1.0, 0.01);  // scaled, so the mean stays
  EXPECT_TRUE(dropout(x, {0.0, 1}).is_same(x));
}

TEST(AdapterSet, StartsFromSeedAndNameOnly) {
  const auto modules = adapter_modules(nano(), AdapterScope::all);
  auto reversed = modules;
  std::reverse(reversed.begin(), reversed.end());
  const AdapterSpec spec;
  const AdapterSet a(modules, spec, 9, at::kCPU), b(reversed, spec, 9, at::kCPU),
      other(modules, spec, 10, at::kCPU);
  for (const AdapterModule& m : modules) {
    EXPECT_TRUE(at::equal(a.find(m.module)->lora_A_RI, b.find(m.module)->lora_A_RI)) << m.module;
    EXPECT_TRUE(at::equal(a.find(m.module)->lora_route_NI, b.find(m.module)->lora_route_NI));
    EXPECT_FALSE(at::equal(a.find(m.module)->lora_A_RI, other.find(m.module)->lora_A_RI));
    EXPECT_EQ(a.find(m.module)->lora_B_NOR.abs().max().item<float>(), 0);
    const double bound = 1 / std::sqrt(static_cast<double>(m.in));
    const double largest = a.find(m.module)->lora_A_RI.abs().max().item<double>();
    EXPECT_LE(largest, bound);
    EXPECT_GT(largest, 0.95 * bound);
  }
  EXPECT_EQ(a.find("thinker.lm_head"), nullptr);
}

TEST(AdapterSet, NamesArePublishedAndRangesCoverTheBuffer) {
  const auto modules = adapter_modules(nano(), AdapterScope::all);
  const AdapterSet set(modules, AdapterSpec{}, 1, at::kCPU);
  ASSERT_EQ(set.parameters().size(), modules.size() * 5);
  const std::string first = "base_model.model.model.layers.0.self_attn.q_proj.";
  const char* parts[] = {"lora_A", "lora_B0", "lora_B1", "lora_B2", "lora_route"};
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_EQ(set.parameters()[i].name, first + parts[i] + ".weight");
  EXPECT_EQ(set.offsets().front(), 0);
  EXPECT_EQ(set.elements(), set.values().numel());
  EXPECT_EQ(set.elements(), adapter_parameters(modules, 16, 3));
  for (std::size_t i = 0; i < set.parameters().size(); ++i) {
    const auto& shape = set.parameters()[i].shape;
    EXPECT_EQ(set.offsets()[i + 1] - set.offsets()[i], shape[0] * shape[1]);
  }
}

TEST(AdapterSet, LayersSeeWhatIsWrittenIntoTheBuffer) {
  AdapterSet set(adapter_modules(nano(), AdapterScope::all), AdapterSpec{}, 1, at::kCPU);
  const ModuleAdapter& adapter = *set.find("thinker.model.layers.0.self_attn.q_proj");
  set.values().fill_(0.25);
  EXPECT_EQ(adapter.lora_B_NOR.min().item<float>(), 0.25F);
  set.begin_gradient();
  torch::autograd::backward({(adapter.lora_A_RI * 3).sum()});
  torch::autograd::backward({adapter.lora_A_RI.sum()});
  const at::Tensor gradient = set.end_gradient();
  EXPECT_EQ(gradient[0].item<float>(), 4);  // both passes were added
  EXPECT_EQ(gradient[adapter.lora_A_RI.numel()].item<float>(), 0);
  EXPECT_FALSE(adapter.lora_A_RI.grad().defined());
}

}  // namespace
}  // namespace crabcast::model
