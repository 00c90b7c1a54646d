// LoRA and the adapter of Crab's first version against their definitions, which autograd
// differentiates.
#include "model/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/crab_v1.h"
#include "model/random.h"

namespace crabcast::model {
namespace {

constexpr std::int64_t kTokens = 29, kIn = 20, kOut = 36, kRank = 4;
constexpr Dropout kDrop{0.25, 77};

struct Problem {
  at::Tensor x, weight, bias, probe;  // probe: the gradient that reaches y
  ILora adapter;
};

Problem make_problem(std::int64_t heads) {
  std::uint64_t key = 0;
  const auto random = [&](std::vector<std::int64_t> shape, bool trained) {
    at::Tensor tensor = at::empty(shape, at::kFloat);
    fill_uniform(tensor, ++key, 1.0);
    return tensor.to(at::kDouble).set_requires_grad(trained);
  };
  Problem p;
  p.x = random({kTokens, kIn}, true);
  p.weight = random({kOut, kIn}, false);
  p.bias = random({kOut}, false);
  p.probe = random({kTokens, kOut}, false);
  p.adapter = {random({kRank, kIn}, true), random({heads, kOut, kRank}, true), {}, 1.7};
  if (heads > 1) p.adapter.lora_route_NI = random({heads, kIn}, true);
  return p;
}

// x with a mask that is a constant to autograd.
at::Tensor dropped(const at::Tensor& x, const Dropout& drop) {
  return x * dropout(at::ones_like(x).detach(), drop);
}

at::Tensor lora_by_definition(const Problem& p, const Dropout& drop) {
  const auto& [A, B, route, scale] = p.adapter;
  return at::linear(p.x, p.weight, p.bias) +
         scale * at::matmul(at::matmul(dropped(p.x, drop), A.t()), B[0].t());
}

at::Tensor crab_v1_by_definition(const Problem& p, const Dropout& drop) {
  const auto& [A, B, route, scale] = p.adapter;
  at::Tensor y = at::linear(p.x, p.weight, p.bias);
  const at::Tensor share = at::softmax(at::matmul(p.x, route.t()), -1);
  for (std::int64_t i = 0; i < B.size(0); ++i) {
    const Dropout own{drop.rate, combine_key(drop.key, static_cast<std::uint64_t>(i))};
    const at::Tensor low = at::matmul(dropped(p.x, own), A.t());
    y = y + scale * share.narrow(1, i, 1) * at::matmul(low, B[i].t());
  }
  return y;
}

void expect_the_same(const Problem& p, const at::Tensor& ours, const at::Tensor& definition) {
  std::vector<at::Tensor> inputs = {p.x, p.adapter.lora_A_RI, p.adapter.lora_B_NOR};
  if (p.adapter.lora_route_NI.defined()) inputs.push_back(p.adapter.lora_route_NI);
  EXPECT_TRUE(at::allclose(ours, definition, 1e-12, 1e-12));
  const auto found = torch::autograd::grad({ours}, inputs, {p.probe});
  const auto expected = torch::autograd::grad({definition}, inputs, {p.probe});
  for (std::size_t i = 0; i < inputs.size(); ++i)
    EXPECT_TRUE(at::allclose(found[i], expected[i], 1e-12, 1e-12)) << "input " << i;
}

TEST(Lora, IsItsDefinition) {
  const Problem p = make_problem(1);
  for (const Dropout& drop : {Dropout{}, kDrop})
    expect_the_same(p, lora_linear(p.x, p.weight, p.bias, p.adapter, drop),
                    lora_by_definition(p, drop));
}

TEST(CrabV1, IsItsDefinition) {
  const Problem p = make_problem(3);
  for (const Dropout& drop : {Dropout{}, kDrop})
    expect_the_same(p, crab_v1_linear(p.x, p.weight, p.bias, p.adapter, drop),
                    crab_v1_by_definition(p, drop));
}

TEST(CrabV1, IsILoraButForTheMasks) {
  const at::NoGradGuard no_grad;
  const Problem p = make_problem(3);
  const auto both = [&](const Dropout& drop) {
    return std::pair(crab_v1_linear(p.x, p.weight, p.bias, p.adapter, drop),
                     ilora_linear(p.x, p.weight, p.bias, p.adapter, drop));
  };
  const auto [crab, ilora] = both({});
  EXPECT_TRUE(at::allclose(crab, ilora, 1e-12, 1e-12));
  const auto [crab_dropped, ilora_dropped] = both(kDrop);
  EXPECT_FALSE(at::allclose(crab_dropped, ilora_dropped, 1e-3, 1e-3));
}

TEST(LowRank, WorksInBfloat16WithFloat32Factors) {
  for (const std::int64_t heads : {1, 3}) {
    Problem p = make_problem(heads);
    for (at::Tensor* factor :
         {&p.adapter.lora_A_RI, &p.adapter.lora_B_NOR, &p.adapter.lora_route_NI})
      if (factor->defined()) *factor = factor->detach().to(at::kFloat).set_requires_grad(true);
    const auto half = [](const at::Tensor& t) { return t.detach().to(at::kBFloat16); };
    const at::Tensor x = half(p.x).set_requires_grad(true);
    const auto linear = heads == 1 ? lora_linear : crab_v1_linear;
    const at::Tensor y = linear(x, half(p.weight), half(p.bias), p.adapter, kDrop);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    const auto grads =
        torch::autograd::grad({y}, {x, p.adapter.lora_A_RI, p.adapter.lora_B_NOR}, {half(p.probe)});
    EXPECT_EQ(grads[0].scalar_type(), at::kBFloat16);
    EXPECT_EQ(grads[1].scalar_type(), at::kFloat);
    EXPECT_EQ(grads[2].scalar_type(), at::kFloat);
  }
}

TEST(LowRank, TheFrozenWeightGetsNoGradient) {
  const Problem p = make_problem(3);
  const at::Tensor y = crab_v1_linear(p.x.detach(), p.weight, p.bias, p.adapter, kDrop);
  torch::autograd::backward({y.sum()});
  EXPECT_TRUE(p.adapter.lora_A_RI.grad().defined());
  EXPECT_FALSE(p.weight.grad().defined());
}

}  // namespace
}  // namespace crabcast::model
