// The vision tower: patches of pictures and videos to tokens of the text model's width.
//
// Attention stays inside windows of window_size pixels a side, but in the full_attention_blocks,
// where it spans one temporal patch. It never crosses frames. Patches come in the order of the
// 2 x 2 blocks that the merger joins; the tower sorts the blocks by window and back again.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/linear.h"
#include "model/ops.h"

namespace crabcast::model {

using GridThw = std::array<std::int64_t, 3>;  // temporal, vertical, horizontal patches

struct VisionBlock {
  at::Tensor norm1_D, norm2_D;
  Linear q, k, v, proj;
  Linear gate_proj, up_proj, down_proj;
};

struct VisionTower {
  VisionConfig config;
  at::Tensor patch_embed;  // [D, channels, time, height, width] of one patch, used as a product
  std::vector<VisionBlock> blocks;
  at::Tensor ln_q_D;
  Linear merger_0, merger_2;
};

VisionTower make_vision_tower(const VisionConfig& config, const WeightMap& weights,
                              const AdapterSet* adapters);

// Where each 2 x 2 block goes for window attention, and how long windows and frames are (in
// patches). Windows at the edge may be smaller; empty ones are left out.
struct VisionLayout {
  std::vector<std::int64_t> window_order;  // block at new place i was at window_order[i]
  std::vector<std::int64_t> window_lengths, frame_lengths;
};
VisionLayout vision_layout(const VisionConfig& config, const std::vector<GridThw>& grids);

// pixels_PX -> tokens [P / merge^2, text width], in the order of the placeholders.
at::Tensor encode_vision(const VisionTower& tower, const at::Tensor& pixels_PX,
                         const std::vector<GridThw>& grids, const Pass& pass);

}  // namespace crabcast::model
