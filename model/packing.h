// A checked batch without padding: what the thinker really computes on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/input.h"
#include "model/vision_tower.h"
#include "protocol/error.h"

namespace crabcast::model {

// The tokens of all samples one after another (T in all), each with what belongs to it.
struct PackedInput {
  std::vector<std::int64_t> lengths;        // tokens of each sample
  std::vector<std::int64_t> next_position;  // of each sample: where decoding goes on
  at::Tensor ids_T;                         // int64
  at::Tensor position_ids_3T;               // int64
  at::Tensor vision_rows, audio_rows;       // int64: rows of T that media tokens replace, in order
  at::Tensor pixels_PX;
  std::vector<GridThw> grids;
  at::Tensor audio_AMF;
  std::vector<std::int64_t> audio_frames;
  // Trained tokens. The hidden state of row target_rows[i] predicts the id targets[i]: that is the
  // shift by one.
  at::Tensor target_rows, targets;          // int64
  std::vector<std::int64_t> target_counts;  // of each sample
};

// Checks types, shapes, ranges and that the placeholders fit the media; copies to `device`, and
// media to `type`. invalid_argument says which tensor is wrong and how.
Result<PackedInput> pack_input(const ThinkerConfig& config, const ModelInput& input,
                               at::Device device, at::ScalarType type);

}  // namespace crabcast::model
