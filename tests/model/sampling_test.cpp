// What is drawn has the distribution that it should have.
#include "model/sampling.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace crabcast::model {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<std::uint64_t> numbers(std::uint64_t count) {
  std::vector<std::uint64_t> all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

TEST(Sampling, FrequenciesAreThoseOfTheSoftmaxAtTheTemperature) {
  constexpr std::int64_t kRows = 20000;
  const at::Tensor logits_V = at::tensor({1.0F, -0.5F, 2.0F, 0.0F, -3.0F});
  GenerationOptions options;
  options.temperature = 0.7;
  const auto ids = choose_tokens(logits_V.expand({kRows, -1}), options, numbers(kRows), 3);
  ASSERT_TRUE(ids.has_value()) << ids.error().message;
  const at::Tensor expected = at::softmax(logits_V / 0.7, 0);
  for (TokenId id = 0; id < 5; ++id) {
    const double p = expected[id].item<double>();
    const double share = static_cast<double>(std::count(ids->begin(), ids->end(), id)) / kRows;
    EXPECT_NEAR(share, p, 4 * std::sqrt(p * (1 - p) / kRows)) << "id " << id;
  }
}

TEST(Sampling, TopPTakesTheSmallestSetThatHasTheProbability) {
  // Probabilities 0.5, 0.3, 0.15, 0.05, in another order.
  const at::Tensor logits_NV = at::tensor({0.15F, 0.5F, 0.05F, 0.3F}).log().unsqueeze(0);
  const auto kept = [&](double top_p) {
    const at::Tensor ids = keep_top_p(logits_NV, top_p).squeeze(0).isfinite().nonzero().squeeze(1);
    return std::vector<std::int64_t>(ids.const_data_ptr<std::int64_t>(),
                                     ids.const_data_ptr<std::int64_t>() + ids.numel());
  };
  EXPECT_EQ(kept(1e-9), std::vector<std::int64_t>({1}));
  EXPECT_EQ(kept(0.49), std::vector<std::int64_t>({1}));
  EXPECT_EQ(kept(0.6), std::vector<std::int64_t>({1, 3}));
  EXPECT_EQ(kept(0.9), std::vector<std::int64_t>({0, 1, 3}));
  EXPECT_EQ(kept(0.99), std::vector<std::int64_t>({0, 1, 2, 3}));
}

TEST(Sampling, WhatTopPDropsIsNeverDrawn) {
  const at::Tensor logits_NV = at::tensor({0.15F, 0.5F, 0.05F, 0.3F}).log().expand({5000, -1});
  GenerationOptions options;
  options.temperature = 1;
  options.top_p = 0.6;
  const auto ids = choose_tokens(logits_NV, options, numbers(5000), 0);
  ASSERT_TRUE(ids.has_value());
  for (const TokenId id : *ids) EXPECT_TRUE(id == 1 || id == 3) << id;
}

TEST(Sampling, ADrawBelongsToSeedSampleAndIndex) {
  const at::Tensor logits_NV = at::zeros({64, 1000});
  GenerationOptions options;
  options.temperature = 1;
  const auto draw = [&](std::uint64_t index) {
    return *choose_tokens(logits_NV, options, numbers(64), index);
  };
  const auto first = draw(0);
  EXPECT_EQ(draw(0), first);
  EXPECT_NE(draw(1), first);
  EXPECT_NE(first[0], first[1]);
  EXPECT_EQ(choose_tokens(logits_NV.narrow(0, 0, 1), options, {5}, 0)->front(), first[5]);
  options.seed = 2;
  EXPECT_NE(draw(0), first);
}

TEST(Sampling, LogitsThatAreNotNumbersAreRefused) {
  const auto code = [](double value) {
    at::Tensor logits_NV = at::zeros({2, 3});
    logits_NV[1].fill_(value);
    const auto ids = choose_tokens(logits_NV, {}, numbers(2), 0);
    return ids ? Errc::ok : ids.error().code;
  };
  EXPECT_EQ(code(1), Errc::ok);
  EXPECT_EQ(code(std::numeric_limits<double>::quiet_NaN()), Errc::non_finite);
  EXPECT_EQ(code(kInf), Errc::non_finite);
  EXPECT_EQ(code(-kInf), Errc::non_finite);
}

}  // namespace
}  // namespace crabcast::model
