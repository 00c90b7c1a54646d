#include "model/thinker.h"

#include <ATen/ATen.h>

#include <numeric>

namespace crabcast::model {

Thinker make_thinker(const ThinkerConfig& config, const WeightMap& weights,
                     const AdapterSet* adapters) {
  return {config, make_language_model(config.text, weights, adapters),
          make_audio_tower(config.audio, weights, adapters),
          make_vision_tower(config.vision, weights, adapters),
          make_linear(weights, adapters, "thinker.lm_head", Bias::no)};
}

at::Tensor embed(const Thinker& thinker, const PackedInput& input, const Pass& pass) {
  at::Tensor x_TD = at::embedding(thinker.text.embed_tokens_VD, input.ids_T);
  if (input.audio_rows.numel() > 0)
    x_TD = x_TD.index_copy(0, input.audio_rows,
                           encode_audio(thinker.audio, input.audio_AMF, input.audio_frames, pass));
  if (input.vision_rows.numel() > 0)
    x_TD = x_TD.index_copy(0, input.vision_rows,
                           encode_vision(thinker.vision, input.pixels_PX, input.grids, pass));
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

std::vector<std::vector<TokenId>> generate_greedily(const Thinker& thinker,
                                                    const PackedInput& input,
                                                    std::int64_t max_new_tokens) {
  const at::NoGradGuard no_grad;
  const TextConfig& config = thinker.config.text;
  const std::size_t samples = input.lengths.size();
  std::vector<std::vector<TokenId>> answers(samples);

  const at::Tensor prompt_TD = embed(thinker, input, {});
  std::vector<KvCache> caches;
  std::vector<std::int64_t> last_rows;
  for (std::size_t i = 0; i < samples; ++i) {
    caches.push_back(make_kv_cache(config, input.lengths[i] + max_new_tokens, prompt_TD.options()));
    last_rows.push_back(input.lengths[i] - 1 + (i > 0 ? last_rows[i - 1] + 1 : 0));
  }
  std::vector<std::size_t> active(samples);  // samples that are not at their end
  std::iota(active.begin(), active.end(), 0);

  const auto device = prompt_TD.device();
  const auto to_tensor = [&](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong).to(device);
  };
  const auto run = [&](const at::Tensor& x_TD, const at::Tensor& positions_3T,
                       const std::vector<std::int64_t>& lengths) {
    std::vector<KvCache*> in_use;
    for (const std::size_t i : active) in_use.push_back(&caches[i]);
    return decode(thinker.text, x_TD, text_rotary(config, positions_3T, x_TD.scalar_type()),
                  lengths, {}, in_use);
  };

  at::Tensor last_ND =
      run(prompt_TD, input.position_ids_3T, input.lengths).index_select(0, to_tensor(last_rows));
  for (std::int64_t step = 0;; ++step) {
    const at::Tensor best_N = logits(thinker, last_ND).argmax(-1).cpu();
    const auto* best = best_N.const_data_ptr<std::int64_t>();
    std::vector<std::size_t> going_on;
    std::vector<std::int64_t> ids, positions;
    for (std::size_t n = 0; n < active.size(); ++n) {
      if (best[n] == thinker.config.special.im_end) continue;
      const std::size_t i = active[n];
      answers[i].push_back(best[n]);
      going_on.push_back(i);
      ids.push_back(best[n]);
      positions.push_back(input.next_position[i] + step);
    }
    active = std::move(going_on);
    if (active.empty() || step + 1 == max_new_tokens) return answers;
    last_ND = run(at::embedding(thinker.text.embed_tokens_VD, to_tensor(ids)),
                  to_tensor(positions).expand({3, -1}), std::vector<std::int64_t>(ids.size(), 1));
  }
}

}  // namespace crabcast::model
