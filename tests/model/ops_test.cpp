#include "model/ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "model/random.h"

namespace crabcast::model {
namespace {

at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t key,
                  at::ScalarType type = at::kDouble) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  fill_uniform(tensor, key, 1.5);
  return tensor.to(type);
}

at::Tensor gradient(const at::Tensor& y, const at::Tensor& x, const at::Tensor& probe) {
  return torch::autograd::grad({y}, {x}, {probe})[0];
}

double largest(const at::Tensor& difference) {
  return difference.abs().max().item<double>();
}

TEST(RmsNorm, ValueAndGradientAreThoseOfTheDefinition) {
  const at::Tensor x = random({9, 24}, 1).set_requires_grad(true);
  const at::Tensor weight = random({24}, 2), probe = random({9, 24}, 3);
  const auto definition = [&](double eps) {
    return x / (x * x).mean(-1, true).add(eps).sqrt() * weight;
  };
  const at::Tensor y = rms_norm(x, weight, 1e-6);
  EXPECT_LT(largest(y - definition(1e-6)), 1e-12);
  EXPECT_LT(largest(gradient(y, x, probe) - gradient(definition(1e-6), x, probe)), 1e-12);
  const at::Tensor trained = weight.detach().clone().set_requires_grad(true);
  EXPECT_LT(largest(gradient(rms_norm(x, trained, 1e-6), trained, probe) -
                    (probe * definition(1e-6) / weight).sum(0)),
            1e-12);
  // The epsilon counts where the input is small.
  const at::Tensor small = at::full({1, 24}, 1e-3, at::kDouble);
  EXPECT_NEAR(rms_norm(small, at::ones({24}, at::kDouble), 1e-6)[0][0].item<double>(),
              1 / std::sqrt(2.0), 1e-9);
}

TEST(Rotate, TurnsHalvesNotNeighbours) {
  const at::Tensor x = at::arange(1, 5, at::kDouble).view({1, 1, 4});  // 1 2 | 3 4
  const at::Tensor angle = at::tensor({0.3, 0.7}, at::kDouble).view({1, 2});
  const at::Tensor y = rotate(x, {angle.cos(), angle.sin()}).flatten();
  const double expected[] = {
      1 * std::cos(0.3) - 3 * std::sin(0.3), 2 * std::cos(0.7) - 4 * std::sin(0.7),
      3 * std::cos(0.3) + 1 * std::sin(0.3), 4 * std::cos(0.7) + 2 * std::sin(0.7)};
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_NEAR(y[i].item<double>(), expected[i], 1e-12);
}

TEST(Rotate, GradientTurnsBack) {
  const at::Tensor x = random({5, 3, 8}, 4).set_requires_grad(true), probe = random({5, 3, 8}, 5);
  const at::Tensor angle = random({5, 4}, 6);
  const Rotary rotary{angle.cos(), angle.sin()};
  const at::Tensor cos = at::cat({angle, angle}, 1).cos().unsqueeze(1);
  const at::Tensor sin = at::cat({angle, angle}, 1).sin().unsqueeze(1);
  const at::Tensor turned = at::cat({-x.narrow(2, 4, 4), x.narrow(2, 0, 4)}, 2);
  const at::Tensor published = x * cos + turned * sin;
  EXPECT_LT(largest(rotate(x, rotary) - published), 1e-12);
  EXPECT_LT(largest(gradient(rotate(x, rotary), x, probe) - gradient(published, x, probe)), 1e-12);
}

TEST(Rotate, FrequenciesFallGeometrically) {
  const at::Tensor f = inverse_frequencies(10000, 8, at::kCPU);
  ASSERT_EQ(f.numel(), 4);
  for (std::int64_t i = 0; i < 4; ++i)
    EXPECT_NEAR(f[i].item<double>(), std::pow(10.0, -static_cast<double>(i)), 1e-6);
}

// Token by token, head by head.
at::Tensor slow_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::int64_t>& lengths, Mask mask) {
  const std::int64_t heads = q.size(1), group = heads / k.size(1);
  std::vector<at::Tensor> rows;
  std::int64_t begin = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = begin; i < begin + length; ++i) {
      const std::int64_t seen = mask == Mask::causal ? i - begin + 1 : length;
      std::vector<at::Tensor> parts;
      for (std::int64_t h = 0; h < heads; ++h) {
        const at::Tensor keys = k.narrow(0, begin, seen).select(1, h / group);
        const at::Tensor scores = at::mv(keys, q[i][h]) / std::sqrt(static_cast<double>(q.size(2)));
        parts.push_back(
            at::mv(v.narrow(0, begin, seen).select(1, h / group).t(), at::softmax(scores, 0)));
      }
      rows.push_back(at::cat(parts));
    }
    begin += length;
  }
  return at::stack(rows);
}

TEST(SegmentAttention, IsThatOfTheDefinition) {
  const std::vector<std::int64_t> lengths = {3, 3, 1, 7, 7, 2};
  const at::Tensor q = random({23, 4, 8}, 7), k = random({23, 2, 8}, 8), v = random({23, 2, 8}, 9);
  for (const Mask mask : {Mask::none, Mask::causal})
    EXPECT_LT(
        largest(segment_attention(q, k, v, lengths, mask) - slow_attention(q, k, v, lengths, mask)),
        1e-12);
}

TEST(SegmentAttention, GradientReachesSharedKeys) {
  const std::vector<std::int64_t> lengths = {5, 9};
  const at::Tensor q = random({14, 4, 8}, 1), v = random({14, 2, 8}, 2);
  const at::Tensor k = random({14, 2, 8}, 3).set_requires_grad(true), probe = random({14, 32}, 4);
  const at::Tensor fast = segment_attention(q, k, v, lengths, Mask::causal);
  const at::Tensor slow = slow_attention(q, k, v, lengths, Mask::causal);
  EXPECT_LT(largest(gradient(fast, k, probe) - gradient(slow, k, probe)), 1e-12);
}

}  // namespace
}  // namespace crabcast::model
