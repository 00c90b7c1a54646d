// ks and ucf: how a thing moves, with a sound that follows the motion, is the action.

#include <array>

#include "data/scene_motion.h"
#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

struct ActionInfo {
  std::string_view name, camel, evidence;
};
constexpr std::array<ActionInfo, kActionCount> kActions = {
    ActionInfo{"bouncing", "Bouncing", "up and down, thumps"},
    ActionInfo{"spinning", "Spinning", "it turns, whirrs"},
    ActionInfo{"sliding", "Sliding", "left and right, pitch glides"},
    ActionInfo{"growing", "Growing", "it swells, gets louder"},
    ActionInfo{"shaking", "Shaking", "it trembles, rattles"},
    ActionInfo{"blinking", "Blinking", "it comes and goes, beeps"},
    ActionInfo{"circling", "Circling", "it goes round, warbles"},
    ActionInfo{"falling", "Falling", "it drops, pitch falls"},
};

}  // namespace

Result<Scene> render_action(const SynthRequest& request, Rng& rng) {
  const bool ucf = request.table().id == "ucf";
  const int turn = request.turn(kActionCount);
  const ActionInfo& action = kActions[static_cast<std::size_t>(turn)];
  const Motion motion = make_motion(static_cast<Action>(turn), rng);

  VideoFormat format;
  std::string stem = request.clip();
  if (ucf) {
    format.container = "avi";
    format.encoders = {"mpeg4"};
    stem = std::string(action.camel) + "/v_" + std::string(action.camel) + "_" + stem;
  }
  const std::string video = stem + "." + format.container, audio = stem + ".wav";

  Scene scene;
  const Canvas behind = background(format.width, format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + video, format, kMotionSeconds, behind,
                         [&](Canvas& canvas, double t) {
                           if (motion.visible(t)) canvas.draw(motion.at(t));
                         }));
  Waveform wave = sound_of(motion, rng);
  CRABCAST_TRY(add_audio(scene, "audio/" + audio, wave));

  const std::string target = make_target(action.evidence, action.name);
  scene.fields = {{"video_path", video}, {"audio_path", audio}, {"action", action.name}};
  scene.fields[ucf ? "new_label" : "label"] = target;
  if (ucf) scene.fields["label"] = action.camel;
  return scene;
}

}  // namespace crabcast::data
