// What the towers make of the media of a batch, out of a FeatureStore where there is one.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/packing.h"
#include "model/thinker.h"

namespace crabcast::model {

// [rows, D], in the order of input.vision_rows and input.audio_rows. With pass.features each medium
// goes through its tower alone, found or not: who shares a batch must not show in the last bits.
at::Tensor vision_features(const Thinker& thinker, const PackedInput& input, const Pass& pass);
at::Tensor audio_features(const Thinker& thinker, const PackedInput& input, const Pass& pass);

}  // namespace crabcast::model
