// Positions of tokens on the three rotary axes: time, height, width.
//
// Text, the begin and end marks and every audio token add 1 on all axes. A vision block starts at
// the next free value and takes (t, h, w) from its grid; what follows goes on at the largest
// position so far plus 1. For a video, t = trunc(index * seconds of a temporal patch * positions
// per second), in float32. Padding gets 1.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/input.h"
#include "protocol/error.h"

namespace crabcast::model {

// Where a sample's tokens stand in its row: all between them are tokens, all around them padding.
struct TokenRun {
  std::int64_t begin = 0, length = 0;
};

struct Positions {
  std::vector<TokenRun> tokens;    // of each sample
  at::Tensor ids_3BL;              // int64, on the host
  std::vector<std::int64_t> next;  // for each sample: where decoding goes on
};

// Reads ids, mask, grids, seconds and audio lengths of `input`, all on the host. Padding may stand
// on the left, on the right, or on both sides. invalid_argument when there is padding inside a
// sample, or nothing else, or when the placeholders in the text do not fit the media, in count or
// in order.
Result<Positions> multimodal_positions(const ThinkerConfig& config, const ModelInput& input);

}  // namespace crabcast::model
