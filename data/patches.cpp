#include "data/patches.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <array>

namespace crabcast::data {
namespace {

// Of CLIP's training pictures; the vision tower was trained with them.
constexpr std::array<float, 3> kMean = {0.48145466F, 0.4578275F, 0.40821073F};
constexpr std::array<float, 3> kDeviation = {0.26862954F, 0.26130258F, 0.27577711F};

}  // namespace

at::Tensor resize_square(const at::Tensor& rgb, int size) {
  const auto planes = rgb.permute({2, 0, 1});
  if (rgb.size(0) == size && rgb.size(1) == size) return planes.contiguous();
  const auto in = planes.unsqueeze(0).to(at::kFloat).contiguous();
  const auto out = at::_upsample_bicubic2d_aa(in, {size, size}, /*align_corners=*/false);
  return out.squeeze(0).clamp(0, 255).round().to(at::kByte);
}

Patches make_patches(const std::vector<at::Tensor>& frames, const model::MediaShape& shape) {
  const std::int64_t patch = shape.patch_size, merge = shape.merge, time = shape.temporal_patch;
  std::vector<at::Tensor> whole = frames;
  while (whole.size() % static_cast<std::size_t>(time) != 0) whole.push_back(whole.back());
  const auto pixels = at::stack(whole);  // [T, 3, H, W]
  const auto t = pixels.size(0) / time, h = pixels.size(2) / patch, w = pixels.size(3) / patch;

  const auto mean = at::tensor(at::ArrayRef<float>(kMean)).view({1, 3, 1, 1});
  const auto deviation = at::tensor(at::ArrayRef<float>(kDeviation)).view({1, 3, 1, 1});
  const auto values = pixels.to(at::kFloat).mul_(1.0 / 255).sub_(mean).div_(deviation);
  const auto rows =
      values
          .view({t, time, 3, h / merge, merge, patch, w / merge, merge, patch})
          // time, block row, block column, row and column in the block; channel, time, y, x
          .permute({0, 3, 6, 4, 7, 2, 1, 5, 8})
          .reshape({t * h * w, 3 * time * patch * patch});
  return {rows, at::tensor({t, h, w}, at::kLong).view({1, 3})};
}

}  // namespace crabcast::data
