// config.json of a base in Hugging Face layout, for tests and benchmarks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>

#include "model/config.h"

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
  const json thinker = {
      {"model_type", "qwen2_5_omni_thinker"},
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
      // Published as a whole number, and transformers takes no other.
      {"position_id_per_seconds", static_cast<std::int64_t>(c.position_id_per_seconds)},
      {"tie_word_embeddings", c.tie_word_embeddings}};
  if (!layout.nested) return thinker;
  return {{"architectures", {"Qwen2_5OmniModel"}},
          {"model_type", "qwen2_5_omni"},
          {"thinker_config", thinker},
          {"talker_config", {{"model_type", "qwen2_5_omni_talker"}}}};
}

}  // namespace crabcast::model::test
