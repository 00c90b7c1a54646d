#include "model/language_model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "model/recompute.h"

namespace crabcast::model {
namespace {

struct Heads {
  at::Tensor q_THE, k_TKE, v_TKE;
};

// One new token of one sample against all keys of its cache. Query heads of a group share a key.
at::Tensor attend_to_cache(const at::Tensor& q_1HE, const KvCache::Layer& cache,
                           std::int64_t used) {
  const at::Tensor k_KCE = cache.k_CKE.narrow(0, 0, used).transpose(0, 1);
  const at::Tensor v_KCE = cache.v_CKE.narrow(0, 0, used).transpose(0, 1);
  const std::int64_t kv_heads = k_KCE.size(0), head_dim = k_KCE.size(2);
  const at::Tensor q_KGE = q_1HE.reshape({kv_heads, -1, head_dim});
  const at::Tensor score_KGC =
      at::bmm(q_KGE, k_KCE.transpose(1, 2)).mul_(1.0 / std::sqrt(static_cast<double>(head_dim)));
  const at::Tensor share_KGC = at::softmax(score_KGC, -1, at::kFloat).to(v_KCE.scalar_type());
  return at::bmm(share_KGC, v_KCE).view({1, -1});
}

at::Tensor attend_with_caches(const Heads& heads, std::size_t layer,
                              const std::vector<std::int64_t>& lengths,
                              const std::vector<KvCache*>& caches) {
  std::vector<at::Tensor> out;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const KvCache::Layer& cache = caches[i]->layers[layer];
    const std::int64_t used = caches[i]->used, count = lengths[i];
    const at::Tensor q = heads.q_THE.narrow(0, row, count), k = heads.k_TKE.narrow(0, row, count),
                     v = heads.v_TKE.narrow(0, row, count);
    cache.k_CKE.narrow(0, used, count).copy_(k);
    cache.v_CKE.narrow(0, used, count).copy_(v);
    TORCH_CHECK(used == 0 || count == 1, "a filled cache takes one token at a time");
    out.push_back(used == 0 ? segment_attention(q, k, v, {count}, Mask::causal)
                            : attend_to_cache(q, cache, used + 1));
    row += count;
  }
  return at::cat(out, 0);
}

at::Tensor attention(const TextConfig& config, const DecoderLayer& layer, const at::Tensor& x_TD,
                     const Rotary& rotary, const std::vector<std::int64_t>& lengths,
                     const Pass& pass, std::size_t index, const std::vector<KvCache*>& caches) {
  const std::int64_t tokens = x_TD.size(0), width = config.head_dim;
  Heads heads;
  heads.q_THE = rotate(apply(layer.q_proj, x_TD, pass).view({tokens, config.heads, width}), rotary);
  heads.k_TKE =
      rotate(apply(layer.k_proj, x_TD, pass).view({tokens, config.kv_heads, width}), rotary);
  heads.v_TKE = apply(layer.v_proj, x_TD, pass).view({tokens, config.kv_heads, width});
  const at::Tensor out = caches.empty() ? segment_attention(heads.q_THE, heads.k_TKE, heads.v_TKE,
                                                            lengths, Mask::causal)
                                        : attend_with_caches(heads, index, lengths, caches);
  return apply(layer.o_proj, out, pass);
}

}  // namespace

LanguageModel make_language_model(const TextConfig& config, const WeightMap& weights,
                                  const AdapterSet* adapters) {
  LanguageModel model;
  model.config = config;
  model.embed_tokens_VD = weights.at("thinker.model.embed_tokens.weight");
  model.norm_D = weights.at("thinker.model.norm.weight");
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string root = "thinker.model.layers." + std::to_string(i) + ".";
    const auto projection = [&](const char* name, Bias bias) {
      return make_linear(weights, adapters, root + name, bias);
    };
    DecoderLayer layer;
    layer.input_layernorm_D = weights.at(root + "input_layernorm.weight");
    layer.post_attention_layernorm_D = weights.at(root + "post_attention_layernorm.weight");
    layer.q_proj = projection("self_attn.q_proj", Bias::yes);
    layer.k_proj = projection("self_attn.k_proj", Bias::yes);
    layer.v_proj = projection("self_attn.v_proj", Bias::yes);
    layer.o_proj = projection("self_attn.o_proj", Bias::no);
    layer.gate_proj = projection("mlp.gate_proj", Bias::no);
    layer.up_proj = projection("mlp.up_proj", Bias::no);
    layer.down_proj = projection("mlp.down_proj", Bias::no);
    model.layers.push_back(std::move(layer));
  }
  return model;
}

KvCache make_kv_cache(const TextConfig& config, std::int64_t capacity, at::TensorOptions options) {
  KvCache cache;
  for (std::int64_t i = 0; i < config.layers; ++i)
    cache.layers.push_back({at::empty({capacity, config.kv_heads, config.head_dim}, options),
                            at::empty({capacity, config.kv_heads, config.head_dim}, options)});
  return cache;
}

Rotary text_rotary(const TextConfig& config, const at::Tensor& position_ids_3T,
                   at::ScalarType type) {
  const at::Tensor frequencies_F =
      inverse_frequencies(config.rope_theta, config.head_dim, position_ids_3T.device());
  const at::Tensor angles_3TF = position_ids_3T.to(at::kFloat).unsqueeze(-1) * frequencies_F;
  std::vector<at::Tensor> sections;
  std::int64_t begin = 0;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const std::int64_t width = config.mrope_section[static_cast<std::size_t>(axis)];
    sections.push_back(angles_3TF[axis].narrow(-1, begin, width));
    begin += width;
  }
  const at::Tensor angles_TF = at::cat(sections, -1);
  return {angles_TF.cos().to(type), angles_TF.sin().to(type)};
}

at::Tensor decode(const LanguageModel& model, const at::Tensor& embeds_TD, const Rotary& rotary,
                  const std::vector<std::int64_t>& lengths, const Pass& pass,
                  const std::vector<KvCache*>& caches) {
  const double eps = model.config.rms_norm_eps;
  at::Tensor x_TD = embeds_TD;
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    // By value: the backward pass may come when this function is left.
    const auto block = [&model, &layer = model.layers[i], eps, rotary, lengths, pass, i, caches](
                           const at::Tensor& in_TD, Output output) {
      const at::Tensor mid_TD =
          in_TD + attention(model.config, layer, rms_norm(in_TD, layer.input_layernorm_D, eps),
                            rotary, lengths, pass, i, caches);
      return mid_TD + swiglu(layer.gate_proj, layer.up_proj, layer.down_proj,
                             rms_norm(mid_TD, layer.post_attention_layernorm_D, eps), pass, output);
    };
    x_TD = apply_block(block, x_TD, pass.recompute);
  }
  for (std::size_t i = 0; i < caches.size(); ++i) caches[i]->used += lengths[i];
  return x_TD;
}

}  // namespace crabcast::model
