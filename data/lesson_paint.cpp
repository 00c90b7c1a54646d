#include "data/lesson_paint.h"

#include <ATen/ops/from_blob.h>

#include "data/decode.h"
#include "data/patches.h"

namespace crabcast::data {
namespace {

constexpr double kFramesPerSecond = 5;

}  // namespace

at::Tensor to_frame(const Canvas& canvas, int size) {
  const auto pixels = canvas.pixels();
  const at::Tensor rgb = at::from_blob(const_cast<std::uint8_t*>(pixels.data()),
                                       {canvas.height(), canvas.width(), 3}, at::kByte);
  return resize_square(rgb, size).clone();
}

std::vector<at::Tensor> film(int count, int size, const Canvas& background, double seconds,
                             const std::function<void(Canvas&, double time)>& paint) {
  std::vector<at::Tensor> frames;
  for (const std::int64_t i :
       uniform_indices(static_cast<std::int64_t>(seconds * kFramesPerSecond), count)) {
    Canvas canvas = background;
    paint(canvas, static_cast<double>(i) / kFramesPerSecond);
    frames.push_back(to_frame(canvas, size));
  }
  return frames;
}

}  // namespace crabcast::data
