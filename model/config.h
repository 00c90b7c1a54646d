// The shapes of a thinker, and the names of its weights as they are published.
//
// One set of modules serves every base: `nano` and the 7B model differ only in these numbers.
// Nothing here allocates a weight, so that the 7B model can be listed on any machine.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

struct TextConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 1e6;
  // Frequencies for time, height and width, in that order; they add up to head_dim / 2.
  std::array<std::int64_t, 3> mrope_section = {16, 24, 24};
};

struct VisionConfig {
  std::int64_t depth = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t heads = 0;
  std::int64_t in_channels = 3;
  std::int64_t patch_size = 14;
  std::int64_t temporal_patch_size = 2;
  std::int64_t spatial_merge_size = 2;
  std::int64_t window_size = 112;  // pixels a side
  std::int64_t out_hidden_size = 0;
  std::vector<std::int64_t> full_attention_blocks;  // all others attend within windows

  [[nodiscard]] std::int64_t patch_elements() const {
    return in_channels * temporal_patch_size * patch_size * patch_size;
  }
};

struct AudioConfig {
  std::int64_t mel_bins = 128;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t ffn_dim = 0;
  std::int64_t d_model = 0;
  std::int64_t max_source_positions = 1500;
  std::int64_t n_window = 100;  // half a chunk, in mel frames
  std::int64_t output_dim = 0;
};

struct ThinkerConfig {
  TextConfig text;
  VisionConfig vision;
  AudioConfig audio;
  SpecialTokens special;
  double position_id_per_seconds = 25;
  bool tie_word_embeddings = false;  // the head is the embedding: no tensor of its own
};

ThinkerConfig nano();
ThinkerConfig qwen2_5_omni_7b();

struct WeightShape {
  std::string name;  // for example thinker.model.norm.weight
  std::vector<std::int64_t> shape;
};

// Every tensor of the base by its published name, in a fixed order: text, audio, vision, head.
std::vector<WeightShape> weight_shapes(const ThinkerConfig& config);

// A linear layer that the adapter's name rule hits.
struct AdapterModule {
  std::string module;     // thinker.model.layers.0.self_attn.q_proj
  std::string published;  // base_model.model.model.layers.0.self_attn.q_proj
  std::int64_t in = 0, out = 0;
};

// Linears whose last name is q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj, in
// the order of weight_shapes. So the audio tower's out_proj and the vision attention's q, k, v and
// proj stay plain.
std::vector<AdapterModule> adapter_modules(const ThinkerConfig& config, AdapterScope scope);
// Trainable elements: r * in + heads * out * r + heads * in for each module.
std::int64_t adapter_parameters(const std::vector<AdapterModule>& modules, std::int64_t rank,
                                std::int64_t heads);

}  // namespace crabcast::model
