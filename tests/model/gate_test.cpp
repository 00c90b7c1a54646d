#include "model/gate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/random.h"

namespace crabcast::model {
namespace {

struct Shape {
  std::int64_t tokens, heads, rank;
};

at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t key, at::ScalarType type) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  fill_uniform(tensor, key, 2.0);
  return tensor.to(type);
}

double distance(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor a = found.to(at::kDouble), b = expected.to(at::kDouble);
  return ((a - b).norm() / b.norm().clamp_min(1e-30)).item<double>();
}

class Gate : public testing::TestWithParam<std::tuple<Shape, at::ScalarType>> {};

// The definition in LibTorch's operations and float64, differentiated by autograd.
TEST_P(Gate, AgreesWithItsDefinition) {
  const auto [shape, type] = GetParam();
  const double limit = type == at::kDouble ? 1e-12 : type == at::kFloat ? 1e-6 : 0.01;
  constexpr double kScale = 1.7;
  const at::Tensor logits = random({shape.tokens, shape.heads}, 1, type),
                   z = random({shape.tokens, shape.rank}, 2, type),
                   dc = random({shape.tokens, shape.heads * shape.rank}, 3, type);

  const at::Tensor exact_logits = logits.to(at::kDouble).set_requires_grad(true),
                   exact_z = z.to(at::kDouble).set_requires_grad(true);
  const at::Tensor exact_p = at::softmax(exact_logits, -1);
  const at::Tensor exact_c =
      (exact_p.unsqueeze(2) * exact_z.unsqueeze(1)).reshape({shape.tokens, -1});
  const auto exact =
      torch::autograd::grad({exact_c}, {exact_z, exact_logits}, {dc.to(at::kDouble) * kScale});

  const at::Tensor p = route(logits);
  EXPECT_EQ(p.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
  EXPECT_LT(distance(p, exact_p), std::min(limit, 1e-6));
  const at::Tensor c = gate(p, z);
  EXPECT_EQ(c.scalar_type(), type);
  EXPECT_LT(distance(c, exact_c), limit);
  const GateGradient gradient = gate_backward(dc, p, z, kScale);
  EXPECT_LT(distance(gradient.dz_TR, exact[0]), limit);
  if (shape.heads > 1) {  // one head always gets everything: the gradient is rounding alone
    EXPECT_LT(distance(gradient.dlogits_TN, exact[1]), limit);
  }
}

INSTANTIATE_TEST_SUITE_P(ShapesAndTypes, Gate,
                         testing::Combine(testing::Values(Shape{1, 1, 1}, Shape{7, 3, 16},
                                                          Shape{33, 5, 13}, Shape{4, 64, 128}),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16)));

TEST(Gate, LargeLogitsDoNotOverflow) {
  const at::Tensor p = route(at::tensor({1000.0F, 999.0F, -1000.0F}).view({1, 3}));
  EXPECT_NEAR(p[0][0].item<float>(), 0.731059, 1e-5);
  EXPECT_EQ(p[0][2].item<float>(), 0);
}

TEST(Gate, NoTokensGiveNothing) {
  const at::Tensor p = route(at::empty({0, 3})), z = at::empty({0, 4});
  EXPECT_EQ(gate(p, z).size(0), 0);
  EXPECT_EQ(gate_backward(at::empty({0, 12}), p, z, 1).dz_TR.size(0), 0);
}

}  // namespace
}  // namespace crabcast::model
