#include "model/ilora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

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

TEST(Dropout, TensorOperationsGiveTheBitsOfTheLoop) {
  for (const std::int64_t count : {1, 3, 4, 5, 4097}) {
    at::Tensor x = at::empty({count});
    fill_uniform(x, 3, 1.0);
    const Dropout drop{0.37, 0xFEDCBA9876543210ULL};
    EXPECT_TRUE(at::equal(dropout(x, drop), dropout_by_tensor_operations(x, drop))) << count;
  }
}

}  // namespace
}  // namespace crabcast::model
