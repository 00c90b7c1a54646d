// The towers by their rules: who may see whom, in what order tokens come out, how many there are.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "model/audio_tower.h"
#include "model/random.h"
#include "model/vision_tower.h"

namespace crabcast::model {
namespace {

at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t key) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  fill_uniform(tensor, key, 1.0);
  return tensor;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

class Towers : public testing::Test {
 protected:
  const ThinkerConfig config_ = nano();
  const WeightMap weights_ = random_nano_weights();
  const AudioTower audio_ = make_audio_tower(config_.audio, weights_, nullptr);
  const VisionTower vision_ = make_vision_tower(config_.vision, weights_, nullptr);
  const at::NoGradGuard no_grad_;

  [[nodiscard]] at::Tensor see(const at::Tensor& pixels, const std::vector<GridThw>& grids) const {
    return encode_vision(vision_, pixels, grids, {});
  }
  [[nodiscard]] at::Tensor hear(const at::Tensor& mel, const std::vector<std::int64_t>& n) const {
    return encode_audio(audio_, mel, n, {});
  }
};

TEST_F(Towers, WindowsOfAnOddGridByHand) {
  VisionConfig config = config_.vision;  // windows of 2 x 2 blocks
  const VisionLayout layout = vision_layout(config, {{1, 6, 10}, {2, 4, 4}});
  //  0  1 | 2  3 | 4
  //  5  6 | 7  8 | 9
  // ------+------+---
  // 10 11 |12 13 |14
  EXPECT_EQ(layout.window_order,
            (std::vector<std::int64_t>{0,  1,  5,  6,  2,  3,  7,  8,  4,  9,  10, 11,
                                       12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22}));
  EXPECT_EQ(layout.window_lengths, (std::vector<std::int64_t>{16, 16, 8, 8, 8, 4, 16, 16}));
  EXPECT_EQ(layout.frame_lengths, (std::vector<std::int64_t>{60, 16, 16}));
}

TEST_F(Towers, FramesOfAVideoDoNotSeeOneAnother) {
  const at::Tensor pixels = random({3 * 64, nano().vision.patch_elements()}, 1);
  const at::Tensor together = see(pixels, {{3, 8, 8}});
  ASSERT_EQ(together.sizes(), at::IntArrayRef({48, config_.text.hidden_size}));
  for (std::int64_t t = 0; t < 3; ++t)
    EXPECT_LT(
        distance(see(pixels.narrow(0, t * 64, 64), {{1, 8, 8}}), together.narrow(0, t * 16, 16)),
        1e-5)
        << "frame " << t;
}

TEST_F(Towers, AFrameSeesItselfAsAWholeInFullBlocksOnly) {
  const at::Tensor pixels = random({64, nano().vision.patch_elements()}, 2);
  at::Tensor changed = pixels.clone();
  changed[63].mul_(-1);  // the last patch, in the last window
  const auto difference = [&](const VisionTower& tower) {
    const at::Tensor a = encode_vision(tower, pixels, {{1, 8, 8}}, {});
    const at::Tensor b = encode_vision(tower, changed, {{1, 8, 8}}, {});
    return (a - b).abs().amax(1);
  };
  const at::Tensor with_full_block = difference(vision_);
  EXPECT_GT(with_full_block.min().item<float>(), 0);  // everything was reached
  VisionTower windows_only = vision_;
  windows_only.config.full_attention_blocks.clear();
  const at::Tensor by_token = difference(windows_only).view({4, 4});
  for (std::int64_t row = 0; row < 4; ++row)
    for (std::int64_t column = 0; column < 4; ++column)
      EXPECT_EQ(by_token[row][column].item<float>() > 0, row >= 2 && column >= 2)
          << row << ", " << column;
}

TEST_F(Towers, TokensKeepTheOrderOfTheirBlocks) {
  // Without any attention to other windows, token i depends on block i only.
  VisionTower tower = vision_;
  tower.config.full_attention_blocks.clear();
  tower.config.window_size = 2 * tower.config.patch_size;  // one block a window
  const at::Tensor pixels = random({64, nano().vision.patch_elements()}, 3);
  const at::Tensor tokens = encode_vision(tower, pixels, {{1, 8, 8}}, {});
  for (std::int64_t block = 0; block < 16; ++block) {
    at::Tensor changed = pixels.clone();
    changed.narrow(0, block * 4, 4).mul_(-1);
    const at::Tensor moved =
        (encode_vision(tower, changed, {{1, 8, 8}}, {}) - tokens).abs().amax(1);
    EXPECT_EQ(moved.argmax().item<std::int64_t>(), block);
    EXPECT_EQ(moved.gt(0).sum().item<std::int64_t>(), 1);
  }
}

TEST_F(Towers, MediaOfABatchDoNotSeeOneAnother) {
  const at::Tensor a = random({64, nano().vision.patch_elements()}, 4),
                   b = random({24, nano().vision.patch_elements()}, 5);
  const at::Tensor both = see(at::cat({a, b}), {{1, 8, 8}, {1, 4, 6}});
  EXPECT_LT(distance(both.narrow(0, 0, 16), see(a, {{1, 8, 8}})), 1e-5);
  EXPECT_LT(distance(both.narrow(0, 16, 6), see(b, {{1, 4, 6}})), 1e-5);
}

TEST_F(Towers, SoundIsHeardInChunks) {
  const at::Tensor mel = random({1, 128, 450}, 6);  // chunks of 200, 200 and 50
  const at::Tensor whole = hear(mel, {450});
  ASSERT_EQ(whole.size(0), MediaShape::audio_tokens(450));
  EXPECT_LT(distance(whole.narrow(0, 0, 50), hear(mel.narrow(2, 0, 200), {200})), 1e-5);
  EXPECT_LT(distance(whole.narrow(0, 50, 50), hear(mel.narrow(2, 200, 200), {200})), 1e-5);
  EXPECT_LT(distance(whole.narrow(0, 100, 12), hear(mel.narrow(2, 400, 50), {50})), 1e-5);
}

TEST_F(Towers, WhatLiesBeyondTheLengthIsNotHeard) {
  const at::Tensor mel = random({2, 128, 300}, 7);
  at::Tensor other = mel.clone();
  other[0].narrow(1, 120, 180).fill_(9);
  EXPECT_TRUE(at::equal(hear(mel, {120, 300}), hear(other, {120, 300})));
}

TEST_F(Towers, AClipIsTheSameAloneAndBesideALongerOne) {
  // Alone its only chunk is not padded; beside the other it is padded to 200 frames.
  const at::Tensor mel = random({2, 128, 300}, 8);
  const at::Tensor both = hear(mel, {77, 300});
  const std::int64_t first = MediaShape::audio_tokens(77);
  EXPECT_LT(distance(both.narrow(0, 0, first), hear(mel.narrow(0, 0, 1).narrow(2, 0, 77), {77})),
            1e-5);
  EXPECT_LT(distance(both.narrow(0, first, 75), hear(mel.narrow(0, 1, 1), {300})), 1e-5);
}

TEST_F(Towers, TokensOfEveryLengthAreThoseOfTheFormula) {
  const at::Tensor mel = random({1, 128, 410}, 9);
  for (const std::int64_t frames : {0, 1, 2, 3, 4, 5, 199, 200, 201, 202, 203, 401, 403, 410})
    EXPECT_EQ(hear(mel, {frames}).size(0), MediaShape::audio_tokens(frames)) << frames;
}

TEST_F(Towers, SinusoidsAreThePublishedTable) {
  const at::Tensor& table = audio_.positions_SD;
  ASSERT_EQ(table.sizes(), at::IntArrayRef({1500, 64}));
  for (const std::int64_t position : {0, 1, 99})
    for (const std::int64_t i : {0, 1, 31}) {
      const double angle =
          static_cast<double>(position) * std::pow(10000.0, -static_cast<double>(i) / 31);
      EXPECT_NEAR(table[position][i].item<double>(), std::sin(angle), 1e-5);
      EXPECT_NEAR(table[position][32 + i].item<double>(), std::cos(angle), 1e-5);
    }
}

}  // namespace
}  // namespace crabcast::model
