// Stills and masks of the synthetic corpus: arig, s4, ms3, ref_avs.
#pragma once

#include <string>
#include <vector>

#include "data/synth_sample.h"

namespace crabcast::data {

inline constexpr int kStillSide = 224;

struct Found {
  std::vector<std::uint8_t> mask = {};  // kStillSide x kStillSide
  Box box = {};
  std::string answer = {};  // "bell [..] [..] [..] [..]"
};
// internal: the thing is not in its picture.
Result<Found> find_thing(const Thing& thing);

Status add_still(Scene& scene, const std::string& path, const Canvas& canvas);
Status add_mask(Scene& scene, const std::string& path, const std::vector<std::uint8_t>& mask);

// Where a still, its mask and its sound lie, relative to the data set's folder; and their names.
struct StillPaths {
  std::string clip, folder, picture, sound, mask, uid;
};
// `object`: number of the masked thing; of ref_avs only.
StillPaths still_paths(const SynthRequest& request, int frame, std::size_t object = 0);

// Kinds of ref_avs that no train row holds: those of its split test_u.
bool is_unseen(Kind kind);

}  // namespace crabcast::data
