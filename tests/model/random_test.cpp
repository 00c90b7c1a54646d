#include "model/random.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

namespace crabcast::model {
namespace {

TEST(Random, FollowsSplitMix64) {
  // The first three outputs of SplitMix64 started with 0 and with 1234567.
  EXPECT_EQ(random_bits(0, 0), 0xE220A8397B1DCDAFULL);
  EXPECT_EQ(random_bits(0, 1), 0x6E789E6AA1B965F4ULL);
  EXPECT_EQ(random_bits(0, 2), 0x06C45D188009454FULL);
  EXPECT_EQ(random_bits(1234567, 0), 6457827717110365317ULL);
  EXPECT_EQ(random_bits(1234567, 1), 3203168211198807973ULL);
}

TEST(Random, KeysOfNeighboursDiffer) {
  std::set<std::uint64_t> keys;
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (std::uint64_t step = 0; step < 20; ++step)
      for (std::uint64_t lane = 0; lane < 20; ++lane)
        keys.insert(combine_key(combine_key(seed, step), lane));
  EXPECT_EQ(keys.size(), 8000U);
  EXPECT_NE(name_key("a.lora_A"), name_key("b.lora_A"));
}

TEST(Random, UniformNumbersFillTheirRangeEvenly) {
  at::Tensor x = at::empty({100'000}, at::kFloat);
  fill_uniform(x, 42, 2.0);
  EXPECT_LE(x.max().item<float>(), 2.0F);
  EXPECT_GE(x.min().item<float>(), -2.0F);
  EXPECT_GT(x.max().item<float>(), 1.999F);
  EXPECT_LT(x.min().item<float>(), -1.999F);
  EXPECT_NEAR(x.mean().item<float>(), 0, 0.02);
  EXPECT_NEAR(x.std().item<float>(), 2 / std::sqrt(3.0), 0.01);
  // Neighbours are not correlated.
  EXPECT_NEAR((x.narrow(0, 0, 99'999) * x.narrow(0, 1, 99'999)).mean().item<float>(), 0, 0.02);
}

}  // namespace
}  // namespace crabcast::model
