#include "data/scene_camera.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

std::uint8_t level_of_light(double value) {
  return static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0) + 0.5);
}

}  // namespace

Canvas textured_background(int width, int height, Rng& rng) {
  constexpr int kCells = 6;
  constexpr double kSpots = 22, kStripes = 6;
  // Light at the corners of a coarse grid, drawn straight in between.
  std::array<std::array<double, kCells + 1>, kCells + 1> spots{};
  for (auto& row : spots)
    for (double& spot : row) spot = rng.between(-kSpots, kSpots);
  const double base = rng.between(25, 75);
  const std::array tint = {rng.between(-12, 12), rng.between(-12, 12), rng.between(-12, 12)};
  const double angle = rng.between(0, kTurn), waves = rng.between(3, 12);
  const double across = waves * std::cos(angle), down = waves * std::sin(angle);

  // Stripes are sin(a x + b y): sines of both parts, of each column and row, make it without a call
  // for each pixel.
  std::vector<std::array<double, 2>> columns(static_cast<std::size_t>(width));
  for (int x = 0; x < width; ++x) {
    const double phase = kTurn * across * x / width;
    columns[static_cast<std::size_t>(x)] = {std::sin(phase), std::cos(phase)};
  }
  Canvas canvas(width, height);
  std::uint8_t* out = canvas.pixels().data();
  for (int y = 0; y < height; ++y) {
    const double at_y = double(y) * kCells / height, phase = kTurn * down * y / height;
    const auto cell_y = static_cast<std::size_t>(at_y);
    const double sine = std::sin(phase), cosine = std::cos(phase), low = at_y - double(cell_y);
    for (int x = 0; x < width; ++x) {
      const double at_x = double(x) * kCells / width;
      const auto cell_x = static_cast<std::size_t>(at_x);
      const double right = at_x - double(cell_x);
      const auto along = [&](std::size_t row) {
        return spots[row][cell_x] + (spots[row][cell_x + 1] - spots[row][cell_x]) * right;
      };
      const double above = along(cell_y), below = along(cell_y + 1);
      const auto& column = columns[static_cast<std::size_t>(x)];
      const double light =
          base + above + (below - above) * low + kStripes * (column[0] * cosine + column[1] * sine);
      for (const double t : tint) *out++ = level_of_light(light + t);
    }
  }
  return canvas;
}

Camera::Camera(const Level& level, Rng& rng)
    : contrast_(rng.between(level.contrast, 1.1)),
      brightness_(rng.between(-12, 12)),
      flicker_(rng.between(0, level.grain)),
      flicker_rate_(rng.between(0.1, 1.5)),
      rng_{rng.next()} {
  for (auto& grain : grain_)
    grain = static_cast<std::int8_t>(rng_.range(-level.grain, level.grain));
}

void Camera::shoot(Canvas& canvas, double time) {
  const double light = brightness_ + flicker_ * std::sin(kTurn * flicker_rate_ * time);
  // With a margin on each side, as grain leads out of the range of a byte.
  constexpr int kMargin = 128;
  std::array<std::uint8_t, 256 + 2 * kMargin> levels{};
  for (int i = 0; i < static_cast<int>(levels.size()); ++i)
    levels[static_cast<std::size_t>(i)] =
        level_of_light(128 + (i - kMargin - 128) * contrast_ + light);
  const std::size_t row = static_cast<std::size_t>(canvas.width()) * 3;
  std::uint8_t* pixel = canvas.pixels().data();
  for (int y = 0; y < canvas.height(); ++y) {
    std::size_t at = rng_.next() % grain_.size();
    for (std::size_t x = 0; x < row; ++x, ++pixel) {
      *pixel = levels[static_cast<std::size_t>(*pixel + grain_[at] + kMargin)];
      at = (at + 1) % grain_.size();
    }
  }
}

}  // namespace crabcast::data
