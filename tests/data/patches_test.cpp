#include "data/patches.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace crabcast::data {
namespace {

at::Tensor random_frame(int size) {
  return at::randint(0, 256, {3, size, size}, at::kByte);
}

constexpr std::array<double, 3> kMean = {0.48145466, 0.4578275, 0.40821073};
constexpr std::array<double, 3> kDeviation = {0.26862954, 0.26130258, 0.27577711};

// Where a value of a row comes from, counted out in loops.
TEST(Patches, RowsFollowTheMergeBlocks) {
  model::MediaShape shape;
  shape.image_size = 112;
  std::vector<at::Tensor> frames;
  for (int i = 0; i < 5; ++i) frames.push_back(random_frame(112));
  const auto [pixels, grid] = make_patches(frames, shape);
  const std::int64_t side = 112 / 14;
  ASSERT_EQ(pixels.sizes(), (at::IntArrayRef{3 * side * side, 3 * 2 * 14 * 14}));
  EXPECT_EQ(grid.sizes(), (at::IntArrayRef{1, 3}));
  EXPECT_EQ(grid.scalar_type(), at::kLong);
  EXPECT_EQ(grid[0][0].item<int>(), 3);
  EXPECT_EQ(grid[0][1].item<int>(), side);
  EXPECT_EQ(grid[0][2].item<int>(), side);

  const auto* row = pixels.const_data_ptr<float>();
  double worst = 0;
  for (std::int64_t t = 0; t < 3; ++t)
    for (std::int64_t block_y = 0; block_y < side / 2; ++block_y)
      for (std::int64_t block_x = 0; block_x < side / 2; ++block_x)
        for (std::int64_t in_y = 0; in_y < 2; ++in_y)
          for (std::int64_t in_x = 0; in_x < 2; ++in_x)
            for (std::size_t channel = 0; channel < 3; ++channel)
              for (std::int64_t dt = 0; dt < 2; ++dt)
                for (std::int64_t y = 0; y < 14; ++y)
                  for (std::int64_t x = 0; x < 14; ++x) {
                    // The sixth frame repeats the fifth.
                    const auto& frame =
                        frames[std::min<std::size_t>(4, static_cast<std::size_t>(t * 2 + dt))];
                    const auto pixel =
                        frame.const_data_ptr<std::uint8_t>()[(static_cast<std::int64_t>(channel) *
                                                                  112 +
                                                              (block_y * 2 + in_y) * 14 + y) *
                                                                 112 +
                                                             (block_x * 2 + in_x) * 14 + x];
                    const double expected = (pixel / 255.0 - kMean[channel]) / kDeviation[channel];
                    worst = std::max(worst, std::abs(*row++ - expected));
                  }
  EXPECT_LT(worst, 1e-6);
}

TEST(Patches, APictureFillsOneTemporalPatch) {
  const auto frame = random_frame(224);
  const auto [pixels, grid] = make_patches({frame}, model::MediaShape{});
  EXPECT_EQ(pixels.sizes(), (at::IntArrayRef{256, 1176}));
  EXPECT_EQ(grid[0][0].item<int>(), 1);
  // Both halves of the temporal patch show the picture.
  const auto cube = pixels.view({256, 3, 2, 196});
  EXPECT_TRUE(at::equal(cube.select(2, 0), cube.select(2, 1)));
}

TEST(Patches, ResizeKeepsAPictureOfTheRightSize) {
  const auto rgb = at::randint(0, 256, {56, 56, 3}, at::kByte);
  EXPECT_TRUE(at::equal(resize_square(rgb, 56), rgb.permute({2, 0, 1})));
}

TEST(Patches, ResizeAveragesAndNeverLeavesTheRange) {
  const auto flat = at::full({90, 160, 3}, 77, at::kByte);
  EXPECT_TRUE(at::equal(resize_square(flat, 224), at::full({3, 224, 224}, 77, at::kByte)));

  // A fine chessboard becomes gray: without antialiasing it would stay black and white.
  auto chess = at::zeros({448, 448, 3}, at::kByte);
  chess.slice(0, 0, 448, 2).slice(1, 0, 448, 2).fill_(255);
  chess.slice(0, 1, 448, 2).slice(1, 1, 448, 2).fill_(255);
  const auto gray = resize_square(chess, 112);
  EXPECT_LT(gray.to(at::kFloat).sub(127.5).abs().max().item<double>(), 3);

  // Bicubic overshoots at an edge; the result must not wrap around.
  auto edge = at::zeros({40, 40, 3}, at::kByte);
  edge.slice(1, 20).fill_(255);
  const auto wide = resize_square(edge, 112);
  EXPECT_EQ(wide[0][50][0].item<int>(), 0);
  EXPECT_EQ(wide[0][50][111].item<int>(), 255);
  EXPECT_EQ(wide[0][50][70].item<int>(), 255);
  EXPECT_EQ(wide.scalar_type(), at::kByte);
}

}  // namespace
}  // namespace crabcast::data
