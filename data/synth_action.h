// What the rows of ks and ucf have in common, however the scene shows an action.
#pragma once

#include <string>
#include <string_view>

#include "data/scene_motion.h"
#include "data/synth_sample.h"

namespace crabcast::data {

struct ActionWords {
  std::string_view name, camel, evidence;
};
const ActionWords& action_words(Action action);

// Container, encoders and names of a clip's files, below the data set's folders video and audio.
struct ActionFiles {
  VideoFormat format;
  std::string video, audio;
};
ActionFiles action_files(const SynthRequest& request, Action action);
nlohmann::json action_fields(const SynthRequest& request, Action action, std::string_view evidence);

}  // namespace crabcast::data
