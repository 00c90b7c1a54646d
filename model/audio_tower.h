// The audio tower: log-mel frames to tokens of the text model's width.
//
// A clip is cut into chunks of 2 * n_window frames. Two convolutions (the second with stride 2) and
// the sinusoid positions restart in each chunk, and attention stays inside it. Then the chunks of a
// clip are joined and neighbouring pairs are averaged, so a chunk of odd length shares a pair with
// the next one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/linear.h"

namespace crabcast::model {

struct LayerNorm {
  at::Tensor weight_D, bias_D;
};

struct AudioLayer {
  LayerNorm self_attn_layer_norm, final_layer_norm;
  Linear q_proj, k_proj, v_proj, out_proj;
  Linear fc1, fc2;
};

struct AudioTower {
  AudioConfig config;
  at::Tensor conv1_weight, conv1_bias, conv2_weight, conv2_bias;
  at::Tensor positions_SD;  // sinusoids; not a published tensor
  std::vector<AudioLayer> layers;
  LayerNorm ln_post;
  Linear proj;
};

AudioTower make_audio_tower(const AudioConfig& config, const WeightMap& weights,
                            const AdapterSet* adapters);

// features_AMF (M mel bins), valid frames of each clip -> tokens of all clips in a row.
at::Tensor encode_audio(const AudioTower& tower, const at::Tensor& features_AMF,
                        const std::vector<std::int64_t>& frames, const Pass& pass);

}  // namespace crabcast::model
