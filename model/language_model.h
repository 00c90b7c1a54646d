// The text model: grouped-query attention with biases on q, k and v, rotary positions on three
// axes, SwiGLU, RMSNorm before each branch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/linear.h"
#include "model/ops.h"

namespace crabcast::model {

struct DecoderLayer {
  at::Tensor input_layernorm_D, post_attention_layernorm_D;
  Linear q_proj, k_proj, v_proj, o_proj;
  Linear gate_proj, up_proj, down_proj;
};

struct LanguageModel {
  TextConfig config;
  at::Tensor embed_tokens_VD, norm_D;
  std::vector<DecoderLayer> layers;
};

LanguageModel make_language_model(const TextConfig& config, const WeightMap& weights,
                                  const AdapterSet* adapters);

// Keys and values of one sample's tokens so far.
struct KvCache {
  struct Layer {
    at::Tensor k_CKE, v_CKE;  // C = capacity
  };
  std::vector<Layer> layers;
  std::int64_t used = 0;
};
KvCache make_kv_cache(const TextConfig& config, std::int64_t capacity, at::TensorOptions options);

// Angles in the type of the hidden state.
Rotary text_rotary(const TextConfig& config, const at::Tensor& position_ids_3T,
                   at::ScalarType type);

// embeds_TD -> hidden state before the final norm. `lengths` are the tokens of each sample. With
// caches (one a sample), keys and values are appended; then a sample brings either its whole prompt
// into an empty cache or exactly one token.
at::Tensor decode(const LanguageModel& model, const at::Tensor& embeds_TD, const Rotary& rotary,
                  const std::vector<std::int64_t>& lengths, const Pass& pass,
                  const std::vector<KvCache*>& caches = {});

}  // namespace crabcast::model
