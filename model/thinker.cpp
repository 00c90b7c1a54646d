#include "model/thinker.h"

#include <ATen/ATen.h>

#include "model/media_features.h"

namespace crabcast::model {

Thinker make_thinker(const ThinkerConfig& config, const WeightMap& weights,
                     const AdapterSet* adapters, std::string base_hash) {
  return {config,
          make_language_model(config.text, weights, adapters),
          make_audio_tower(config.audio, weights, adapters),
          make_vision_tower(config.vision, weights, adapters),
          make_linear(weights, adapters, "thinker.lm_head", Bias::no),
          std::move(base_hash)};
}

at::Tensor embed(const Thinker& thinker, const PackedInput& input, const Pass& pass) {
  at::Tensor x_TD = at::embedding(thinker.text.embed_tokens_VD, input.ids_T);
  if (input.audio_rows.numel() > 0)
    x_TD = x_TD.index_copy(0, input.audio_rows, audio_features(thinker, input, pass));
  if (input.vision_rows.numel() > 0)
    x_TD = x_TD.index_copy(0, input.vision_rows, vision_features(thinker, input, pass));
  return x_TD;
}

at::Tensor hidden_states(const Thinker& thinker, const PackedInput& input, const Pass& pass) {
  const at::Tensor embeds_TD = embed(thinker, input, pass);
  const Rotary rotary =
      text_rotary(thinker.config.text, input.position_ids_3T, embeds_TD.scalar_type());
  return decode(thinker.text, embeds_TD, rotary, input.lengths, pass);
}

at::Tensor logits(const Thinker& thinker, const at::Tensor& hidden_ND) {
  return apply(thinker.lm_head,
               rms_norm(hidden_ND, thinker.text.norm_D, thinker.config.text.rms_norm_eps), {});
}

at::Tensor token_losses(const Thinker& thinker, const PackedInput& input, const Pass& pass) {
  const at::Tensor hidden_TD = hidden_states(thinker, input, pass);
  // The head runs on trained rows only; tokens x vocabulary would be the largest tensor of all.
  const at::Tensor logits_NV = logits(thinker, hidden_TD.index_select(0, input.target_rows));
  return at::cross_entropy_loss(logits_NV.to(at::kFloat), input.targets, {}, at::Reduction::None);
}

}  // namespace crabcast::model
