#include "data/log_mel.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>
#include <vector>

namespace crabcast::data {
namespace {

at::Tensor tensor_of(const std::vector<double>& values) {
  auto tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  for (std::size_t i = 0; i < values.size(); ++i)
    tensor.mutable_data_ptr<float>()[i] = static_cast<float>(values[i]);
  return tensor;
}

std::vector<double> noise(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, 0.1);
  std::vector<double> values(n);
  for (auto& value : values) value = normal(random);
  return values;
}

// The definition, written out in double precision without any transform or tensor.
std::vector<std::vector<double>> reference(const std::vector<double>& x, int bins) {
  const auto n = static_cast<std::int64_t>(x.size());
  const auto filters = mel_filters(bins);
  const auto* weight = filters.const_data_ptr<float>();
  const auto sample = [&](std::int64_t i) {
    if (i < 0) i = -i;
    return i < n ? x[static_cast<std::size_t>(i)] : 0.0;
  };
  const std::int64_t frames = (n + 159) / 160, heard = frames + 2;
  std::vector<std::vector<double>> mel(static_cast<std::size_t>(bins));
  double highest = -10;
  for (std::int64_t frame = 0; frame < heard; ++frame) {
    std::vector<double> power(201);
    for (int k = 0; k <= 200; ++k) {
      double real = 0, imaginary = 0;
      for (int i = 0; i < 400; ++i) {
        const double window = 0.5 - 0.5 * std::cos(2 * std::numbers::pi * i / 400);
        const double value = window * sample(frame * 160 + i - 200);
        real += value * std::cos(2 * std::numbers::pi * k * i / 400);
        imaginary += value * std::sin(2 * std::numbers::pi * k * i / 400);
      }
      power[static_cast<std::size_t>(k)] = real * real + imaginary * imaginary;
    }
    for (int band = 0; band < bins; ++band) {
      double sum = 0;
      for (int k = 0; k <= 200; ++k)
        sum += static_cast<double>(weight[band * 201 + k]) * power[static_cast<std::size_t>(k)];
      const double value = std::log10(std::max(1e-10, sum));
      highest = std::max(highest, value);
      if (frame < frames) mel[static_cast<std::size_t>(band)].push_back(value);
    }
  }
  for (auto& band : mel)
    for (auto& value : band) value = (std::max(value, highest - 8) + 4) / 4;
  return mel;
}

double worst_difference(const at::Tensor& mel, const std::vector<std::vector<double>>& truth) {
  double worst = 0;
  const auto* value = mel.const_data_ptr<float>();
  for (const auto& band : truth)
    for (const double expected : band) worst = std::max(worst, std::abs(*value++ - expected));
  return worst;
}

TEST(LogMel, FollowsTheDefinition) {
  for (const std::size_t samples : {std::size_t{16'000}, std::size_t{4'801}, std::size_t{150}}) {
    const auto x = noise(samples, 1);
    const auto mel = log_mel(tensor_of(x), 128);
    EXPECT_EQ(mel.sizes(),
              (at::IntArrayRef{128, static_cast<std::int64_t>((samples + 159) / 160)}));
    EXPECT_EQ(mel.scalar_type(), at::kFloat);
    EXPECT_TRUE(mel.is_contiguous());
    EXPECT_LT(worst_difference(mel, reference(x, 128)), 2e-5) << samples << " samples";
  }
}

// A tone shows in one band: the one whose centre is nearest.
TEST(LogMel, AToneIsLoudestInItsBand) {
  std::vector<double> x(16'000);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = 0.5 * std::sin(2 * std::numbers::pi * 1000 * static_cast<double>(i) / 16'000);
  const auto mel = log_mel(tensor_of(x), 128);
  const auto filters = mel_filters(128);
  // 1000 Hz is frequency 25 of the transform.
  EXPECT_EQ(mel.select(1, 50).argmax().item<std::int64_t>(),
            filters.select(1, 25).argmax().item<std::int64_t>());
  EXPECT_LT(worst_difference(mel, reference(x, 128)), 5e-5);
}

// Silence has no maximum of its own: everything sits at log10(1e-10).
TEST(LogMel, Silence) {
  const auto mel = log_mel(tensor_of(std::vector<double>(1600)), 80);
  EXPECT_EQ(mel.size(0), 80);
  EXPECT_NEAR(mel.max().item<double>(), -1.5, 1e-6);
  EXPECT_NEAR(mel.min().item<double>(), -1.5, 1e-6);
}

// The floor is that of the clip, not of each frame: a quiet half is cut at 8 below the loud half.
TEST(LogMel, TheFloorBelongsToTheClip) {
  auto x = noise(32'000, 2);
  for (std::size_t i = 16'000; i < x.size(); ++i) x[i] *= 1e-6;
  const auto mel = log_mel(tensor_of(x), 128);
  EXPECT_NEAR(mel.max().item<double>() - mel.min().item<double>(), 2, 1e-5);
}

// Slaney's scale and norm, against values of the published filters for 128 bands.
TEST(LogMel, FiltersAreThePublishedOnes) {
  const auto filters = mel_filters(128);
  EXPECT_EQ(filters.sizes(), (at::IntArrayRef{128, 201}));
  EXPECT_EQ(filters[0][0].item<float>(), 0.0F);
  // Each band's weights times the width of a frequency (40 Hz) add up to about 1.
  const auto areas = filters.slice(0, 60).sum(1).mul(40);
  EXPECT_NEAR(areas.mean().item<double>(), 1, 0.05);
}

}  // namespace
}  // namespace crabcast::data
