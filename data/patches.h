// Frames and pictures to the rows of patches that the vision tower takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/tokenizer.h"

namespace crabcast::data {

// uint8 [H, W, 3] to uint8 [3, size, size]: bicubic with antialiasing in float32, rounded and kept
// within 0 to 255. The shape of the picture is not kept.
at::Tensor resize_square(const at::Tensor& rgb, int size);

struct Patches {
  at::Tensor pixel_values;  // float32 [t * h * w, 3 * temporal_patch * patch * patch]
  at::Tensor grid_thw;      // int64 [1, 3]: t, h, w in patches
};

// Frames as resize_square makes them, in order of time; one frame is a picture. Values are scaled
// to [0, 1] and normalized by channel. The last frame is repeated until the frames fill whole
// temporal patches. Rows: time, then merge x merge blocks row by row, then the patches inside a
// block; a row holds (channel, time, y, x).
Patches make_patches(const std::vector<at::Tensor>& frames, const model::MediaShape& shape);

// Pixel values back to the bytes that they were made of, uint8 of the same shape: a quarter of the
// size, and nothing is lost.
at::Tensor bytes_of_pixels(const at::Tensor& pixel_values);
// The same bits that make_patches gave.
at::Tensor pixels_of_bytes(const at::Tensor& bytes);

}  // namespace crabcast::data
