#include "model/base_config_fields.h"

namespace crabcast::model {
namespace {

// Far above any real size; they keep products from overflowing.
constexpr std::int64_t kLayers = 10'000, kWidth = kMostWidth, kVocabulary = 1 << 24;
constexpr std::int64_t kFrames = 1 << 20, kPatch = 256, kMerge = 16;

#define AT(member) [](ThinkerConfig& c) -> std::int64_t& { return c.member; }
constexpr WholeField kWholeFields[] = {
    {Part::text, "vocab_size", nullptr, 152064, 1, kVocabulary, AT(text.vocab_size)},
    {Part::text, "hidden_size", nullptr, 3584, 1, kWidth, AT(text.hidden_size)},
    {Part::text, "intermediate_size", nullptr, 18944, 1, kWidth, AT(text.intermediate_size)},
    {Part::text, "num_hidden_layers", nullptr, 28, 1, kLayers, AT(text.layers)},
    {Part::text, "num_attention_heads", nullptr, 28, 1, kWidth, AT(text.heads)},
    {Part::text, "num_key_value_heads", nullptr, 4, 1, kWidth, AT(text.kv_heads)},

    {Part::vision, "depth", "num_hidden_layers", 32, 1, kLayers, AT(vision.depth)},
    {Part::vision, "hidden_size", nullptr, 3584, 1, kWidth, AT(vision.hidden_size)},
    {Part::vision, "intermediate_size", nullptr, 3420, 1, kWidth, AT(vision.intermediate_size)},
    {Part::vision, "num_heads", "num_attention_heads", 16, 1, kWidth, AT(vision.heads)},
    {Part::vision, "in_channels", nullptr, 3, 3, 3, AT(vision.in_channels)},  // pictures have three
    {Part::vision, "patch_size", nullptr, 14, 1, kPatch, AT(vision.patch_size)},
    {Part::vision, "temporal_patch_size", nullptr, 2, 1, kPatch, AT(vision.temporal_patch_size)},
    {Part::vision, "spatial_merge_size", nullptr, 2, 1, kMerge, AT(vision.spatial_merge_size)},
    {Part::vision, "window_size", nullptr, 112, 1, kWidth, AT(vision.window_size)},
    {Part::vision, "out_hidden_size", nullptr, 3584, 1, kWidth, AT(vision.out_hidden_size)},

    {Part::audio, "num_mel_bins", nullptr, 128, 1, kWidth, AT(audio.mel_bins)},
    {Part::audio, "encoder_layers", "num_hidden_layers", 32, 1, kLayers, AT(audio.layers)},
    {Part::audio, "encoder_attention_heads", "num_attention_heads", 20, 1, kWidth, AT(audio.heads)},
    {Part::audio, "encoder_ffn_dim", "intermediate_size", 5120, 1, kWidth, AT(audio.ffn_dim)},
    {Part::audio, "d_model", "hidden_size", 1280, 4, kWidth, AT(audio.d_model)},
    {Part::audio, "max_source_positions", nullptr, 1500, 1, kFrames,
     AT(audio.max_source_positions)},
    {Part::audio, "n_window", nullptr, 100, 1, kFrames, AT(audio.n_window)},
    {Part::audio, "output_dim", nullptr, 3584, 1, kWidth, AT(audio.output_dim)},

    {Part::thinker, "audio_token_index", "audio_token_id", 151646, 0, kVocabulary,
     AT(special.audio)},
    {Part::thinker, "image_token_index", "image_token_id", 151655, 0, kVocabulary,
     AT(special.image)},
    {Part::thinker, "video_token_index", "video_token_id", 151656, 0, kVocabulary,
     AT(special.video)},
    {Part::thinker, "audio_start_token_id", nullptr, 151647, 0, kVocabulary,
     AT(special.audio_begin)},
    {Part::thinker, "audio_end_token_id", nullptr, 151648, 0, kVocabulary, AT(special.audio_end)},
    // transformers has no default for these: the values are those of the published models.
    {Part::thinker, "vision_start_token_id", nullptr, 151652, 0, kVocabulary,
     AT(special.vision_begin)},
    {Part::thinker, "vision_end_token_id", nullptr, 151653, 0, kVocabulary, AT(special.vision_end)},
    {Part::thinker, "pad_token_id", nullptr, 151643, 0, kVocabulary, AT(special.pad)},
    {Part::thinker, "bos_token_id", nullptr, 151644, 0, kVocabulary, AT(special.im_start)},
    {Part::thinker, "eos_token_id", nullptr, 151645, 0, kVocabulary, AT(special.im_end)},
};
#undef AT

}  // namespace

std::span<const WholeField> whole_fields() {
  return kWholeFields;
}

const std::vector<FixedField>& fixed_fields() {
  static const std::vector<FixedField> fields = {
      {Part::thinker, "model_type", "qwen2_5_omni_thinker"},
      {Part::text, "model_type", "qwen2_5_omni_text"},
      {Part::text, "hidden_act", "silu"},
      {Part::text, "use_sliding_window", false},
      {Part::text, "attention_dropout", 0},
      {Part::text, "partial_rotary_factor", 1},
      {Part::vision, "model_type", "qwen2_5_omni_vision_encoder"},
      {Part::vision, "hidden_act", "silu"},
      {Part::vision, "rope_theta", 10000},
      {Part::audio, "model_type", "qwen2_5_omni_audio_encoder"},
      {Part::audio, "activation_function", "gelu"},
      {Part::audio, "scale_embedding", false},
      {Part::audio, "dropout", 0},
      {Part::audio, "attention_dropout", 0},
      {Part::audio, "activation_dropout", 0},
  };
  return fields;
}

}  // namespace crabcast::model
