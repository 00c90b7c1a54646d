// A lane's samples in packs: what goes through the model at once.
//
// The memory that a lane takes grows with the tokens of a pack, not of the lane. Samples lie behind
// one another without padding, attend to themselves only (ops.h, segment_attention) and keep their
// own positions, so that loss and gradient do not depend on who shares a pack, but for rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/packing.h"

namespace crabcast::model {

// Which samples share a pack: the longest first, each into the first pack that has room (first fit
// decreasing; equal lengths in their order). A sample longer than `limit` has a pack of its own;
// limit 0: all in one. Samples ascend inside a pack, packs in the order of their first sample.
// A function of the lengths only, and so the same on every member and after every restart.
std::vector<std::vector<std::size_t>> pack_layout(const std::vector<std::int64_t>& lengths,
                                                  std::int64_t limit);

// The samples of a batch that make a pack, with their media and targets.
PackedInput take_samples(const ThinkerConfig& config, const PackedInput& batch,
                         const std::vector<std::size_t>& samples);

}  // namespace crabcast::model
