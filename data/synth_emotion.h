// What the rows of the emotion data sets have in common, however the scene shows an expression.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "data/scene_face.h"
#include "data/synth_sample.h"

namespace crabcast::data {

// What a data set calls the expressions, in the order of expression(); empty: it does not have it.
const std::array<std::string_view, kExpressionCount>& emotion_words(std::string_view dataset);
// The expression whose turn it is: an index of expression().
std::size_t emotion_of_turn(const SynthRequest& request);

struct ClipPaths {
  std::string video, audio;  // below the data set's folders of these names
};
ClipPaths emotion_paths(const SynthRequest& request);
nlohmann::json emotion_fields(const SynthRequest& request, std::string_view word,
                              std::string_view evidence);

}  // namespace crabcast::data
