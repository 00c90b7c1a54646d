#include "model/vision_tower.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/recompute.h"

namespace crabcast::model {
namespace {

constexpr double kNormEps = 1e-6;
constexpr double kRopeTheta = 10000;

at::Tensor to_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

// Height and width of each patch, in the order in which patches come: 2 x 2 block by block.
Rotary vision_rotary(const VisionConfig& config, const std::vector<GridThw>& grids,
                     at::Device device) {
  std::vector<std::int64_t> heights, widths;
  const std::int64_t merge = config.spatial_merge_size;
  for (const auto& [frames, height, width] : grids)
    for (std::int64_t t = 0; t < frames; ++t)
      for (std::int64_t row = 0; row < height; row += merge)
        for (std::int64_t column = 0; column < width; column += merge)
          for (std::int64_t i = 0; i < merge * merge; ++i) {
            heights.push_back(row + i / merge);
            widths.push_back(column + i % merge);
          }
  const std::int64_t head_dim = config.hidden_size / config.heads;
  const at::Tensor frequencies = inverse_frequencies(kRopeTheta, head_dim / 2, device);
  const auto angles = [&](const std::vector<std::int64_t>& positions) {
    return to_tensor(positions, device).to(at::kFloat).unsqueeze(1) * frequencies;
  };
  const at::Tensor angles_PF = at::cat({angles(heights), angles(widths)}, 1);
  return {angles_PF.cos(), angles_PF.sin()};
}

// Moves whole 2 x 2 blocks of rows.
at::Tensor reorder_blocks(const at::Tensor& x_PD, const at::Tensor& order, std::int64_t unit) {
  return x_PD.view({-1, unit * x_PD.size(1)}).index_select(0, order).view({x_PD.size(0), -1});
}

at::Tensor attention(const VisionConfig& config, const VisionBlock& block, const at::Tensor& x_PD,
                     const Rotary& rotary, const std::vector<std::int64_t>& lengths,
                     const Pass& pass) {
  const auto heads = [&](const Linear& layer) {
    return apply(layer, x_PD, pass).view({x_PD.size(0), config.heads, -1});
  };
  return apply(block.proj,
               segment_attention(rotate(heads(block.q), rotary), rotate(heads(block.k), rotary),
                                 heads(block.v), lengths, Mask::none),
               pass);
}

// Norm of each patch, then join the four, then two layers with the exact GELU.
at::Tensor merge_blocks(const VisionTower& tower, const at::Tensor& x_PD, std::int64_t unit,
                        const Pass& pass) {
  const at::Tensor joined = rms_norm(x_PD, tower.ln_q_D, kNormEps).view({-1, unit * x_PD.size(1)});
  return apply(tower.merger_2, at::gelu(apply(tower.merger_0, joined, pass)), pass);
}

}  // namespace

VisionTower make_vision_tower(const VisionConfig& config, const WeightMap& weights,
                              const AdapterSet* adapters) {
  const std::string root = "thinker.visual.";
  VisionTower tower;
  tower.config = config;
  tower.patch_embed = weights.at(root + "patch_embed.proj.weight");
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const std::string name = root + "blocks." + std::to_string(i) + ".";
    const auto projection = [&](const char* part) {
      return make_linear(weights, adapters, name + part, Bias::yes);
    };
    VisionBlock block;
    block.norm1_D = weights.at(name + "norm1.weight");
    block.norm2_D = weights.at(name + "norm2.weight");
    block.q = projection("attn.q");
    block.k = projection("attn.k");
    block.v = projection("attn.v");
    block.proj = projection("attn.proj");
    block.gate_proj = projection("mlp.gate_proj");
    block.up_proj = projection("mlp.up_proj");
    block.down_proj = projection("mlp.down_proj");
    tower.blocks.push_back(std::move(block));
  }
  tower.ln_q_D = weights.at(root + "merger.ln_q.weight");
  tower.merger_0 = make_linear(weights, adapters, root + "merger.mlp.0", Bias::yes);
  tower.merger_2 = make_linear(weights, adapters, root + "merger.mlp.2", Bias::yes);
  return tower;
}

VisionLayout vision_layout(const VisionConfig& config, const std::vector<GridThw>& grids) {
  VisionLayout layout;
  const std::int64_t merge = config.spatial_merge_size;
  const std::int64_t side = config.window_size / merge / config.patch_size;  // blocks
  std::int64_t first = 0;
  for (const auto& [frames, height, width] : grids) {
    const std::int64_t rows = height / merge, columns = width / merge;
    for (std::int64_t t = 0; t < frames; ++t, first += rows * columns) {
      layout.frame_lengths.push_back(height * width);
      for (std::int64_t top = 0; top < rows; top += side)
        for (std::int64_t left = 0; left < columns; left += side) {
          const std::int64_t bottom = std::min(top + side, rows);
          const std::int64_t right = std::min(left + side, columns);
          for (std::int64_t row = top; row < bottom; ++row)
            for (std::int64_t column = left; column < right; ++column)
              layout.window_order.push_back(first + row * columns + column);
          layout.window_lengths.push_back((bottom - top) * (right - left) * merge * merge);
        }
    }
  }
  return layout;
}

at::Tensor encode_vision(const VisionTower& tower, const at::Tensor& pixels_PX,
                         const std::vector<GridThw>& grids, const Pass& pass) {
  const VisionConfig& config = tower.config;
  const at::Device device = pixels_PX.device();
  const std::int64_t unit = config.spatial_merge_size * config.spatial_merge_size;
  const VisionLayout layout = vision_layout(config, grids);
  const at::Tensor order = to_tensor(layout.window_order, device);

  at::Tensor x_PD =
      reorder_blocks(at::linear(pixels_PX, tower.patch_embed.flatten(1)), order, unit);
  Rotary rotary = vision_rotary(config, grids, device);
  rotary = {reorder_blocks(rotary.cos_TF, order, unit), reorder_blocks(rotary.sin_TF, order, unit)};
  // A frozen tower has no backward pass.
  const Recompute recompute =
      is_trained(tower.blocks.front().gate_proj) ? pass.recompute : Recompute::none;
  for (std::size_t i = 0; i < tower.blocks.size(); ++i) {
    const auto& full = config.full_attention_blocks;
    const bool whole_frame =
        std::find(full.begin(), full.end(), static_cast<std::int64_t>(i)) != full.end();
    const auto block = [&config, &layer = tower.blocks[i], rotary, pass,
                        lengths = whole_frame ? layout.frame_lengths : layout.window_lengths](
                           const at::Tensor& in_PD, Output output) {
      const at::Tensor mid_PD =
          in_PD +
          attention(config, layer, rms_norm(in_PD, layer.norm1_D, kNormEps), rotary, lengths, pass);
      return mid_PD + swiglu(layer.gate_proj, layer.up_proj, layer.down_proj,
                             rms_norm(mid_PD, layer.norm2_D, kNormEps), pass, output);
    };
    x_PD = apply_block(block, x_PD, recompute);
  }
  const at::Tensor merged = merge_blocks(tower, x_PD, unit, pass);

  std::vector<std::int64_t> back(layout.window_order.size());
  for (std::size_t i = 0; i < back.size(); ++i)
    back[static_cast<std::size_t>(layout.window_order[i])] = static_cast<std::int64_t>(i);
  return merged.index_select(0, to_tensor(back, device));
}

}  // namespace crabcast::model
