// Random bases in Hugging Face layout for tests: any ThinkerConfig, in every form in which such
// folders occur.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/random.h"
#include "model/safetensors.h"
#include "model/weights.h"
#include "tests/support/program.h"

namespace crabcast::model::test {

// What tensors are called: as published; as transformers 5 saves the thinker alone; as it names
// them in memory (state_dict), of the thinker alone and of the whole model.
enum class Names { published, saved_thinker, thinker_in_memory, whole_in_memory };

struct HfLayout {
  bool nested = true;            // config.json of the whole model, with a thinker_config
  bool rope_parameters = false;  // as transformers 5 writes it, instead of rope_scaling
  Names names = Names::published;
  std::uint64_t shard_bytes = 0;  // 0 = one model.safetensors, no index
  at::ScalarType type = at::kFloat;
  bool other_parts = false;  // with tensors of the talker and the vocoder
  std::uint64_t seed = 1;
};

// nano with one layer in each part: 1.9 MB in float32, all kinds of tensors.
inline ThinkerConfig small_config() {
  ThinkerConfig config = nano();
  config.text.layers = config.audio.layers = config.vision.depth = 1;
  config.vision.full_attention_blocks = {0};
  return config;
}

inline nlohmann::json config_json(const ThinkerConfig& c, const HfLayout& layout = {}) {
  using nlohmann::json;
  json text = {{"model_type", "qwen2_5_omni_text"},
               {"vocab_size", c.text.vocab_size},
               {"hidden_size", c.text.hidden_size},
               {"intermediate_size", c.text.intermediate_size},
               {"num_hidden_layers", c.text.layers},
               {"num_attention_heads", c.text.heads},
               {"num_key_value_heads", c.text.kv_heads},
               {"head_dim", c.text.head_dim},
               {"hidden_act", "silu"},
               {"rms_norm_eps", c.text.rms_norm_eps},
               {"use_sliding_window", false}};
  json rope = {{"rope_type", "default"}, {"mrope_section", c.text.mrope_section}};
  if (layout.rope_parameters) {
    rope["rope_theta"] = c.text.rope_theta;
    text["rope_parameters"] = rope;
  } else {
    rope["type"] = "default";
    text["rope_scaling"] = rope;
    text["rope_theta"] = c.text.rope_theta;
  }
  const json vision = {{"model_type", "qwen2_5_omni_vision_encoder"},
                       {"depth", c.vision.depth},
                       {"hidden_size", c.vision.hidden_size},
                       {"intermediate_size", c.vision.intermediate_size},
                       {"num_heads", c.vision.heads},
                       {"in_channels", c.vision.in_channels},
                       {"patch_size", c.vision.patch_size},
                       {"temporal_patch_size", c.vision.temporal_patch_size},
                       {"spatial_merge_size", c.vision.spatial_merge_size},
                       {"window_size", c.vision.window_size},
                       {"out_hidden_size", c.vision.out_hidden_size},
                       {"fullatt_block_indexes", c.vision.full_attention_blocks},
                       {"hidden_act", "silu"}};
  const json audio = {{"model_type", "qwen2_5_omni_audio_encoder"},
                      {"num_mel_bins", c.audio.mel_bins},
                      {"encoder_layers", c.audio.layers},
                      {"encoder_attention_heads", c.audio.heads},
                      {"encoder_ffn_dim", c.audio.ffn_dim},
                      {"d_model", c.audio.d_model},
                      {"max_source_positions", c.audio.max_source_positions},
                      {"n_window", c.audio.n_window},
                      {"output_dim", c.audio.output_dim},
                      {"activation_function", "gelu"}};
  const json thinker = {{"model_type", "qwen2_5_omni_thinker"},
                        {"text_config", text},
                        {"vision_config", vision},
                        {"audio_config", audio},
                        {"audio_token_index", c.special.audio},
                        {"image_token_index", c.special.image},
                        {"video_token_index", c.special.video},
                        {"audio_start_token_id", c.special.audio_begin},
                        {"audio_end_token_id", c.special.audio_end},
                        {"vision_start_token_id", c.special.vision_begin},
                        {"vision_end_token_id", c.special.vision_end},
                        {"pad_token_id", c.special.pad},
                        {"bos_token_id", c.special.im_start},
                        {"eos_token_id", c.special.im_end},
                        {"position_id_per_seconds", c.position_id_per_seconds},
                        {"tie_word_embeddings", c.tie_word_embeddings}};
  if (!layout.nested) return thinker;
  return {{"architectures", {"Qwen2_5OmniModel"}},
          {"model_type", "qwen2_5_omni"},
          {"thinker_config", thinker},
          {"talker_config", {{"model_type", "qwen2_5_omni_talker"}}}};
}

inline std::string file_name(std::string published, Names names) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (!published.starts_with(from)) return false;
    published.replace(0, from.size(), to);
    return true;
  };
  const std::string root = names == Names::whole_in_memory ? "thinker." : "";
  if (names == Names::published) return published;
  if (names == Names::saved_thinker) {
    replace("thinker.", "");
    return published;
  }
  (void)(replace("thinker.model.", root + "model.language_model.") ||
         replace("thinker.audio_tower.", root + "model.audio_tower.") ||
         replace("thinker.visual.", root + "model.visual.") ||
         replace("thinker.lm_head.", root + "lm_head."));
  return published;
}

// Uniform, with the variance of what a trained model has, roughly: activations stay finite.
inline WeightMap random_weights(const ThinkerConfig& config, at::ScalarType type,
                                std::uint64_t seed) {
  WeightMap weights;
  for (const WeightShape& weight : weight_shapes(config)) {
    at::Tensor tensor = at::empty(weight.shape, at::kFloat);
    const double inputs = static_cast<double>(tensor.numel()) / static_cast<double>(tensor.size(0));
    fill_uniform(tensor, combine_key(seed, name_key(weight.name)), 1.0 / std::sqrt(inputs));
    if (weight.shape.size() == 1 && weight.name.ends_with("weight")) tensor.add_(1);
    weights.emplace(weight.name, tensor.to(type));
  }
  return weights;
}

inline void write_config(const std::filesystem::path& folder, const nlohmann::json& config) {
  crabcast::testing::write_file(folder / "config.json", config.dump(2));
}

// The safetensors of a base, without its config. Tensors go into shards from the last name to the
// first, so that no reader can rely on an order.
inline void write_weights(const std::filesystem::path& folder, const WeightMap& weights,
                          const HfLayout& layout) {
  std::filesystem::create_directories(folder);
  std::vector<NamedTensor> tensors;
  for (auto at = weights.rbegin(); at != weights.rend(); ++at)
    tensors.push_back({file_name(at->first, layout.names), at->second.contiguous()});
  if (layout.other_parts) {
    tensors.push_back({"talker.model.norm.weight", at::ones({24})});
    tensors.push_back({"token2wav.code2wav_dit_model.proj_out.bias", at::zeros({7})});
  }
  std::vector<std::vector<NamedTensor>> shards(1);
  std::uint64_t bytes = 0;
  for (NamedTensor& tensor : tensors) {
    if (layout.shard_bytes > 0 && bytes > 0 &&
        bytes + tensor.tensor.nbytes() > layout.shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.tensor.nbytes();
    shards.back().push_back(std::move(tensor));
  }
  nlohmann::json map = nlohmann::json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = layout.shard_bytes == 0
                                 ? "model.safetensors"
                                 : "model-" + std::to_string(i + 1) + ".safetensors";
    const Status written = write_safetensors(folder / name, shards[i], {{"format", "pt"}});
    ASSERT_TRUE(written.has_value()) << written.error().message;
    for (const NamedTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  if (layout.shard_bytes > 0)
    crabcast::testing::write_file(folder / "model.safetensors.index.json",
                                  nlohmann::json{{"weight_map", map}}.dump(1));
}

// A whole base, but for its tokenizer; the weights as they were written.
inline WeightMap write_base(const std::filesystem::path& folder, const ThinkerConfig& config,
                            const HfLayout& layout = {}) {
  WeightMap weights = random_weights(config, layout.type, layout.seed);
  write_config(folder, config_json(config, layout));
  write_weights(folder, weights, layout);
  return weights;
}

}  // namespace crabcast::model::test
