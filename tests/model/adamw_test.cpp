#include "model/adamw.h"

#include <gtest/gtest.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include "model/random.h"

namespace crabcast::model {
namespace {

at::Tensor random(std::int64_t count, std::uint64_t key) {
  at::Tensor tensor = at::empty({count}, at::kFloat);
  fill_uniform(tensor, key, 1.0);
  return tensor;
}

const std::vector<std::int64_t> kOffsets = {0, 7, 40, 61, 100};

OptimizerSpec decaying() {
  OptimizerSpec spec;
  spec.weight_decay = 0.1;
  return spec;
}

TEST(AdamW, FollowsTorchForThreeSteps) {
  AdamW ours(decaying(), kOffsets, at::TensorOptions(at::kFloat));
  at::Tensor values = random(100, 1);
  at::Tensor theirs = values.clone().set_requires_grad(true);
  torch::optim::AdamW reference({theirs}, torch::optim::AdamWOptions(1e-2).weight_decay(0.1));
  for (std::uint64_t step = 1; step <= 3; ++step) {
    const at::Tensor gradient = random(100, 10 + step) * 6;
    const double tokens = 12, limit = 0.5;
    const double norm = (gradient / tokens).norm().item<double>();
    ours.step(values, gradient, clip_factor(norm, limit) / tokens, {true, true, true, true}, 1e-2);
    theirs.mutable_grad() = gradient / tokens;
    torch::nn::utils::clip_grad_norm_({theirs}, limit);
    reference.step();
    EXPECT_LT((values - theirs.detach()).abs().max().item<float>(), 1e-6) << "step " << step;
  }
}

TEST(AdamW, LeavesUntouchedTensorsAndTheirCountersAlone) {
  AdamW optimizer(decaying(), kOffsets, at::TensorOptions(at::kFloat));
  at::Tensor values = random(100, 1);
  const at::Tensor before = values.clone(), gradient = random(100, 2);
  optimizer.step(values, gradient, 1, {true, false, true, true}, 1e-2);
  optimizer.step(values, gradient, 1, {false, false, true, false}, 1e-2);
  EXPECT_EQ(optimizer.steps(), (std::vector<std::int64_t>{1, 0, 2, 1}));
  EXPECT_TRUE(at::equal(values.narrow(0, 7, 33), before.narrow(0, 7, 33)));
  EXPECT_EQ(optimizer.exp_avg().narrow(0, 7, 33).abs().max().item<float>(), 0);
  EXPECT_FALSE(at::equal(values.narrow(0, 0, 7), before.narrow(0, 0, 7)));
}

TEST(AdamW, GroupingTensorsChangesNoBit) {
  const at::Tensor gradient = random(100, 2);
  const auto train = [&](std::vector<std::int64_t> offsets) {
    const std::vector<bool> all(offsets.size() - 1, true);
    AdamW optimizer(decaying(), std::move(offsets), at::TensorOptions(at::kFloat));
    at::Tensor values = random(100, 1);
    for (int step = 0; step < 5; ++step) optimizer.step(values, gradient, 0.37, all, 1e-2);
    return values;
  };
  EXPECT_TRUE(at::equal(train({0, 100}), train({0, 1, 2, 3, 50, 99, 100})));
}

TEST(AdamW, ClippingFollowsTorchsFormula) {
  EXPECT_DOUBLE_EQ(clip_factor(2, 1), 1 / (2 + 1e-6));
  EXPECT_DOUBLE_EQ(clip_factor(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_factor(1, 1), 1 / (1 + 1e-6));
  EXPECT_DOUBLE_EQ(clip_factor(1e9, 0), 1);
}

TEST(Schedule, CosineWithWarmUp) {
  OptimizerSpec spec;
  spec.lr = 2;
  spec.warmup = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate(spec, 1, 100), 0);  // the first step of a warm-up
  EXPECT_DOUBLE_EQ(learning_rate(spec, 6, 100), 2 * 5 / 10.0);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 11, 100), 2);
  EXPECT_NEAR(learning_rate(spec, 56, 100), 1, 1e-12);  // half way down
  EXPECT_NEAR(learning_rate(spec, 101, 100), 0, 1e-12);
  EXPECT_NEAR(learning_rate(spec, 150, 100), 0, 1e-12);  // and it stays there
  spec.warmup = 0;
  EXPECT_DOUBLE_EQ(learning_rate(spec, 1, 100), 2);
  spec.warmup = 0.03;
  EXPECT_DOUBLE_EQ(learning_rate(spec, 2, 10), 2);  // ceil(0.3) = 1 step of warm-up
}

TEST(Schedule, ConstantAfterWarmUp) {
  OptimizerSpec spec;
  spec.lr = 2;
  spec.warmup = 0.5;
  spec.schedule = LearningRateSchedule::constant;
  EXPECT_DOUBLE_EQ(learning_rate(spec, 3, 8), 1);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 5, 8), 2);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 8, 8), 2);
}

}  // namespace
}  // namespace crabcast::model
