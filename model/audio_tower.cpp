#include "model/audio_tower.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "model/ops.h"
#include "model/recompute.h"

namespace crabcast::model {
namespace {

constexpr double kNormEps = 1e-5;
constexpr double kMaxTimescale = 10000;

at::Tensor sinusoids(std::int64_t length, std::int64_t channels) {
  const std::int64_t half = channels / 2;
  const double step = std::log(kMaxTimescale) / static_cast<double>(half - 1);
  const at::Tensor rates = at::arange(half, at::TensorOptions(at::kFloat)).mul(-step).exp();
  const at::Tensor angles = at::arange(length, at::TensorOptions(at::kFloat)).unsqueeze(1) * rates;
  return at::cat({angles.sin(), angles.cos()}, 1);
}

at::Tensor layer_norm(const LayerNorm& norm, const at::Tensor& x) {
  return at::layer_norm(x, {x.size(-1)}, norm.weight_D, norm.bias_D, kNormEps);
}

std::int64_t after_stride(std::int64_t frames) {
  return (frames + 1) / 2;
}

struct Chunk {
  std::int64_t clip, begin, frames;
};

std::vector<Chunk> cut_into_chunks(const std::vector<std::int64_t>& frames, std::int64_t length) {
  std::vector<Chunk> chunks;
  for (std::size_t clip = 0; clip < frames.size(); ++clip)
    for (std::int64_t begin = 0; begin < frames[clip]; begin += length)
      chunks.push_back(
          {static_cast<std::int64_t>(clip), begin, std::min(length, frames[clip] - begin)});
  return chunks;
}

// All chunks, padded to the longest, through both convolutions; the valid rows in a row.
at::Tensor convolve(const AudioTower& tower, const at::Tensor& features_AMF,
                    const std::vector<Chunk>& chunks) {
  std::int64_t longest = 0;
  for (const Chunk& chunk : chunks) longest = std::max(longest, chunk.frames);
  const auto count = static_cast<std::int64_t>(chunks.size());
  at::Tensor padded = at::zeros({count, features_AMF.size(1), longest}, features_AMF.options());
  at::Tensor valid = at::zeros({count, 1, longest}, features_AMF.options());
  for (std::int64_t i = 0; i < count; ++i) {
    const Chunk& chunk = chunks[static_cast<std::size_t>(i)];
    padded[i]
        .narrow(1, 0, chunk.frames)
        .copy_(features_AMF[chunk.clip].narrow(1, chunk.begin, chunk.frames));
    valid[i].narrow(1, 0, chunk.frames).fill_(1);
  }
  // The first convolution's bias leaks into the padding, and the second one would read it.
  at::Tensor x = at::gelu(at::conv1d(padded, tower.conv1_weight, tower.conv1_bias, 1, 1)) * valid;
  x = at::gelu(at::conv1d(x, tower.conv2_weight, tower.conv2_bias, 2, 1)).transpose(1, 2);
  x = x + tower.positions_SD.narrow(0, 0, x.size(1));
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < count; ++i)
    rows.push_back(x[i].narrow(0, 0, after_stride(chunks[static_cast<std::size_t>(i)].frames)));
  return at::cat(rows, 0);
}

at::Tensor attention(const AudioConfig& config, const AudioLayer& layer, const at::Tensor& x_TD,
                     const std::vector<std::int64_t>& lengths, const Pass& pass) {
  const auto heads = [&](const Linear& projection) {
    return apply(projection, x_TD, pass).view({x_TD.size(0), config.heads, -1});
  };
  return apply(layer.out_proj,
               segment_attention(heads(layer.q_proj), heads(layer.k_proj), heads(layer.v_proj),
                                 lengths, Mask::none),
               pass);
}

// Averages rows 0 and 1, 2 and 3, .. of each clip; a last odd row is left out.
at::Tensor pool_pairs(const at::Tensor& x_TD, const std::vector<std::int64_t>& frames) {
  std::vector<std::int64_t> first;
  std::int64_t row = 0;
  for (const std::int64_t count : frames) {
    const std::int64_t rows = after_stride(count);
    for (std::int64_t i = 0; i + 1 < rows; i += 2) first.push_back(row + i);
    row += rows;
  }
  const at::Tensor index = at::tensor(first, at::kLong).to(x_TD.device());
  return (x_TD.index_select(0, index) + x_TD.index_select(0, index + 1)) / 2;
}

}  // namespace

AudioTower make_audio_tower(const AudioConfig& config, const WeightMap& weights,
                            const AdapterSet* adapters) {
  const std::string root = "thinker.audio_tower.";
  const auto norm = [&](const std::string& name) {
    return LayerNorm{weights.at(name + ".weight"), weights.at(name + ".bias")};
  };
  AudioTower tower;
  tower.config = config;
  tower.conv1_weight = weights.at(root + "conv1.weight");
  tower.conv1_bias = weights.at(root + "conv1.bias");
  tower.conv2_weight = weights.at(root + "conv2.weight");
  tower.conv2_bias = weights.at(root + "conv2.bias");
  tower.positions_SD =
      sinusoids(config.max_source_positions, config.d_model).to(tower.conv1_weight.options());
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string name = root + "layers." + std::to_string(i) + ".";
    const auto projection = [&](const char* part, Bias bias) {
      return make_linear(weights, adapters, name + part, bias);
    };
    AudioLayer layer;
    layer.self_attn_layer_norm = norm(name + "self_attn_layer_norm");
    layer.final_layer_norm = norm(name + "final_layer_norm");
    layer.q_proj = projection("self_attn.q_proj", Bias::yes);
    layer.k_proj = projection("self_attn.k_proj", Bias::no);
    layer.v_proj = projection("self_attn.v_proj", Bias::yes);
    layer.out_proj = projection("self_attn.out_proj", Bias::yes);
    layer.fc1 = projection("fc1", Bias::yes);
    layer.fc2 = projection("fc2", Bias::yes);
    tower.layers.push_back(std::move(layer));
  }
  tower.ln_post = norm(root + "ln_post");
  tower.proj = make_linear(weights, adapters, root + "proj", Bias::yes);
  return tower;
}

at::Tensor encode_audio(const AudioTower& tower, const at::Tensor& features_AMF,
                        const std::vector<std::int64_t>& frames, const Pass& pass) {
  const std::vector<Chunk> chunks = cut_into_chunks(frames, 2 * tower.config.n_window);
  std::vector<std::int64_t> lengths;
  for (const Chunk& chunk : chunks) lengths.push_back(after_stride(chunk.frames));
  if (chunks.empty()) return at::empty({0, tower.config.output_dim}, features_AMF.options());

  at::Tensor x_TD = convolve(tower, features_AMF, chunks);
  // A frozen tower has no backward pass.
  const Recompute recompute =
      is_trained(tower.layers.front().q_proj) ? pass.recompute : Recompute::none;
  for (const AudioLayer& layer : tower.layers) {
    const auto block = [&tower, &layer, lengths, pass](const at::Tensor& in_TD, Output output) {
      const at::Tensor mid_TD =
          in_TD + attention(tower.config, layer, layer_norm(layer.self_attn_layer_norm, in_TD),
                            lengths, pass);
      const at::Tensor normed = layer_norm(layer.final_layer_norm, mid_TD);
      return mid_TD + apply(layer.fc2, at::gelu(apply(layer.fc1, normed, pass)), pass, output);
    };
    x_TD = apply_block(block, x_TD, recompute);
  }
  return apply(tower.proj, layer_norm(tower.ln_post, pool_pairs(x_TD, frames)), pass);
}

}  // namespace crabcast::model
