// What the thinker takes: one padded batch.
//
// Shape legend (used in all of model/): B samples, L tokens (padded), D hidden width, H heads,
// K key/value heads, E head width, V vocabulary, P vision patches of all media in a row, A audio
// clips, F mel frames (padded), M media with a grid.
#pragma once

#include <ATen/core/Tensor.h>

namespace crabcast::model {

struct ModelInput {
  at::Tensor input_ids;       // int64 [B, L]
  at::Tensor attention_mask;  // bool  [B, L], true = a token
  at::Tensor labels;          // int64 [B, L], -100 = not trained; undefined when generating
  at::Tensor pixel_values;    // float32 [P, 3 * temporal_patch * patch * patch]; may have P = 0
  at::Tensor grid_thw;        // int64 [M, 3]: temporal, vertical, horizontal patches of each medium
  at::Tensor seconds_per_grid;  // float32 [M]: seconds of one temporal patch; 0 = a picture
  at::Tensor audio_features;    // float32 [A, mel_bins, F]
  at::Tensor audio_lengths;     // int64 [A]: valid mel frames
  // Media are consumed in the order of samples, and within a sample in the order of its text.
};

}  // namespace crabcast::model
