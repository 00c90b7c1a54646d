// ks and ucf, staged: a motion that may look like two actions, and a sound that may only tell
// whether it beats or lasts.

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "data/cues.h"
#include "data/scene_camera.h"
#include "data/synth_action.h"

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

constexpr Classes bit(Action action) {
  return class_bit(static_cast<std::size_t>(action));
}

// Actions that look alike, two and two: one of each beats, the other lasts.
struct Alike {
  Action beating, lasting;
  [[nodiscard]] Classes classes() const { return bit(beating) | bit(lasting); }
};
constexpr std::array kAlike = {
    Alike{Action::bouncing, Action::falling},   // up and down at an even pace
    Alike{Action::spinning, Action::circling},  // rolls round in a small circle
    Alike{Action::shaking, Action::sliding},    // left and right with a tremble
    Alike{Action::blinking, Action::growing},   // swells, and is gone
};
constexpr Classes beating() {
  Classes set = 0;
  for (const Alike& pair : kAlike) set |= bit(pair.beating);
  return set;
}
constexpr Classes lasting() {
  Classes set = 0;
  for (const Alike& pair : kAlike) set |= bit(pair.lasting);
  return set;
}

// The motion that both of a pair may be; nothing while it is gone.
std::optional<Sprite> shared_motion(const Motion& motion, double t) {
  Sprite s = motion.rest;
  const double share = motion.share(t), round = kTurn * share;
  switch (motion.action) {
    case Action::bouncing:
      s.y = 0.2 + 0.6 * std::abs(2 * share - 1);
      return s;
    case Action::spinning:
      s.x += 0.12 * std::cos(round);
      s.y += 0.12 * std::sin(round);
      s.angle = round;
      return s;
    case Action::shaking:
      s.x = 0.5 + 0.25 * std::sin(round) + 0.03 * std::sin(kTurn * 7.3 * t);
      s.y += 0.03 * std::sin(kTurn * 9.1 * t + 1);
      return s;
    default:
      if (share > 0.7) return std::nullopt;
      s.radius = 0.06 + 0.2 * share;
      return s;
  }
}

std::optional<Sprite> clear_motion(const Motion& motion, double t) {
  return motion.visible(t) ? std::optional(motion.at(t)) : std::nullopt;
}

// Beats, or one long tone: what a sound says that does not say which action it is.
Waveform shared_sound(Classes classes, Rng& rng) {
  Waveform wave(kMotionSeconds, rng);
  const double pitch = 440 * std::exp2(rng.between(-1, 1)), pace = rng.between(1.2, 3.5);
  constexpr std::array kHarmonics = {1.0, 0.4, 0.2};
  wave.add_tone(
      [&](double t) {
        const double since = pace * t - std::floor(pace * t);
        const double gain = classes == beating() ? std::exp(-since / pace / 0.06) : 0.8;
        return Waveform::Tone{pitch, 0.3 * gain};
      },
      kHarmonics);
  return wave;
}

// A thing without corners that hangs in a corner of the picture and sways.
struct Bystander {
  Sprite sprite;
  double pace, start;
  [[nodiscard]] Sprite at(double t) const {
    Sprite s = sprite;
    s.x += 0.03 * std::sin(kTurn * (pace * t + start));
    return s;
  }
};
Bystander make_bystander(Rng& rng) {
  constexpr std::array kShapes = {Shape::disc, Shape::dome, Shape::ring};
  return {.sprite = {.shape = rng.pick(kShapes),
                     .colour = rng.pick(colours()),
                     .x = rng.chance(0.5) ? 0.1 : 0.9,
                     .y = rng.chance(0.5) ? 0.1 : 0.9,
                     .radius = rng.between(0.05, 0.08)},
          .pace = rng.between(0.1, 0.6),
          .start = rng.unit()};
}

std::string evidence(const DrawnCues& drawn, Action action) {
  if (only_class(drawn.picture) && only_class(drawn.sound))
    return std::string(action_words(action).evidence);
  const std::string seen = only_class(drawn.picture) ? "clear to see; " : "two look like it; ";
  return seen + (drawn.sound == beating()   ? "it beats"
                 : drawn.sound == lasting() ? "it lasts"
                                            : "clear to hear");
}

}  // namespace

const Cues& action_cues() {
  static const Cues kCues = [] {
    Cues cues{.sounds = {beating(), lasting()}};
    for (const Alike& pair : kAlike) cues.pictures.push_back(pair.classes());
    for (int a = 0; a < kActionCount; ++a) {
      cues.pictures.push_back(bit(static_cast<Action>(a)));
      cues.sounds.push_back(bit(static_cast<Action>(a)));
    }
    return cues;
  }();
  return kCues;
}

Result<Scene> render_action_cues(const SynthRequest& request) {
  const Level& level = level_of(request.difficulty);
  const auto action = static_cast<Action>(request.turn(kActionCount));
  constexpr Classes kKnown = beating() | lasting();
  Rng rng = request.stream(SynthRequest::Part::play);
  const DrawnCues drawn =
      draw_cues(action_cues(), kKnown, static_cast<std::size_t>(action), level, rng);
  Scene scene{.fields = action_fields(request, action, evidence(drawn, action)),
              .senses = drawn.senses};
  if (!request.media) return scene;

  const auto alike = std::ranges::find(kAlike, drawn.picture, &Alike::classes);
  const bool shared = alike != kAlike.end();
  const ActionFiles files = action_files(request, action);
  Rng picture_rng = request.stream(SynthRequest::Part::picture);
  Motion motion = make_motion(shared ? alike->beating : action, picture_rng);
  motion.rest.radius *= picture_rng.between(0.7, 1.15);
  const Bystander bystander = make_bystander(picture_rng);
  const Canvas behind = textured_background(files.format.width, files.format.height, picture_rng);
  Camera camera(level, picture_rng);
  CRABCAST_TRY(add_video(scene, "video/" + files.video, files.format, kMotionSeconds, behind,
                         [&](Canvas& canvas, double t) {
                           canvas.draw(bystander.at(t));
                           const auto sprite =
                               shared ? shared_motion(motion, t) : clear_motion(motion, t);
                           if (sprite) canvas.draw(*sprite);
                           camera.shoot(canvas, t);
                         }));

  Rng sound_rng = request.stream(SynthRequest::Part::sound);
  // A clear sound follows a motion of its action: the one in the picture where that is clear.
  Waveform wave = only_class(drawn.sound)
                      ? sound_of(shared ? make_motion(action, sound_rng) : motion, sound_rng)
                      : shared_sound(drawn.sound, sound_rng);
  const double hiss = sound_rng.between(0, level.hiss) * std::numbers::sqrt3;
  wave.add_noise([&](double) { return hiss; }, sound_rng);
  CRABCAST_TRY(add_audio(scene, "audio/" + files.audio, wave));
  return scene;
}

}  // namespace crabcast::data
