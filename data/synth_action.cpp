// ks and ucf: how a thing moves, with a sound that follows the motion, is the action.
#include "data/synth_action.h"

#include <array>

namespace crabcast::data {
namespace {

constexpr std::array<ActionWords, kActionCount> kActions = {
    ActionWords{"bouncing", "Bouncing", "up and down, thumps"},
    ActionWords{"spinning", "Spinning", "it turns, whirrs"},
    ActionWords{"sliding", "Sliding", "left and right, pitch glides"},
    ActionWords{"growing", "Growing", "it swells, gets louder"},
    ActionWords{"shaking", "Shaking", "it trembles, rattles"},
    ActionWords{"blinking", "Blinking", "it comes and goes, beeps"},
    ActionWords{"circling", "Circling", "it goes round, warbles"},
    ActionWords{"falling", "Falling", "it drops, pitch falls"},
};

}  // namespace

const ActionWords& action_words(Action action) {
  return kActions[static_cast<std::size_t>(action)];
}

ActionFiles action_files(const SynthRequest& request, Action action) {
  ActionFiles files;
  std::string stem = request.clip();
  if (request.table().id == "ucf") {
    files.format.container = "avi";
    files.format.encoders = {"mpeg4"};
    const std::string camel(action_words(action).camel);
    stem = camel + "/v_" + camel + "_" + stem;
  }
  files.video = stem + "." + files.format.container;
  files.audio = stem + ".wav";
  return files;
}

nlohmann::json action_fields(const SynthRequest& request, Action action,
                             std::string_view evidence) {
  const bool ucf = request.table().id == "ucf";
  const ActionWords& words = action_words(action);
  const ActionFiles files = action_files(request, action);
  nlohmann::json fields = {
      {"video_path", files.video}, {"audio_path", files.audio}, {"action", words.name}};
  fields[ucf ? "new_label" : "label"] = make_target(evidence, words.name);
  if (ucf) fields["label"] = words.camel;
  return fields;
}

Result<Scene> render_action(const SynthRequest& request, Rng& rng) {
  const auto action = static_cast<Action>(request.turn(kActionCount));
  const Motion motion = make_motion(action, rng);
  const ActionFiles files = action_files(request, action);
  Scene scene;
  const Canvas behind = background(files.format.width, files.format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + files.video, files.format, kMotionSeconds, behind,
                         [&](Canvas& canvas, double t) {
                           if (motion.visible(t)) canvas.draw(motion.at(t));
                         }));
  Waveform wave = sound_of(motion, rng);
  CRABCAST_TRY(add_audio(scene, "audio/" + files.audio, wave));
  scene.fields = action_fields(request, action, action_words(action).evidence);
  return scene;
}

}  // namespace crabcast::data
