// The thinker: both towers and the text model, the loss over the answer.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "model/audio_tower.h"
#include "model/config.h"
#include "model/language_model.h"
#include "model/packing.h"
#include "model/vision_tower.h"

namespace crabcast::model {

struct Thinker {
  ThinkerConfig config;
  LanguageModel text;
  AudioTower audio;
  VisionTower vision;
  Linear lm_head;
  std::string base_hash = {};  // for the keys of a FeatureStore
};

// `adapters` may be null; otherwise it must outlive the thinker. Throws std::out_of_range when a
// weight is missing.
Thinker make_thinker(const ThinkerConfig& config, const WeightMap& weights,
                     const AdapterSet* adapters, std::string base_hash = {});

// Embeddings of the tokens, those of media replaced by what the towers make of them.
at::Tensor embed(const Thinker& thinker, const PackedInput& input, const Pass& pass);

// Hidden state [T, D] before the final norm.
at::Tensor hidden_states(const Thinker& thinker, const PackedInput& input, const Pass& pass);

// Final norm and head, for the given rows only: [rows, V].
at::Tensor logits(const Thinker& thinker, const at::Tensor& hidden_ND);

// Cross-entropy of each trained token in float32, in the order of input.targets. There must be one.
at::Tensor token_losses(const Thinker& thinker, const PackedInput& input, const Pass& pass);

}  // namespace crabcast::model
