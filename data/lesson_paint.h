// Canvases to frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "data/scene.h"

namespace crabcast::data {

// uint8 [3, size, size]
at::Tensor to_frame(const Canvas& canvas, int size);
// `count` frames of a clip of 5 frames a second, as decode_video would take them.
std::vector<at::Tensor> film(int count, int size, const Canvas& background, double seconds,
                             const std::function<void(Canvas&, double time)>& paint);

}  // namespace crabcast::data
