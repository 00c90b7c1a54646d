// meld, mer24, cremad, mafw, dfew, staged: a face that may fit several expressions, and a voice
// that may let only its melody or only its timbre be heard.

#include <algorithm>
#include <array>

#include "data/cues.h"
#include "data/scene_camera.h"
#include "data/scene_voice.h"
#include "data/synth_emotion.h"

namespace crabcast::data {
namespace {

enum : std::size_t { calm, glad, sad, angry, startled, afraid, disgusted };

struct Look {
  Classes classes = 0;
  Expression face = {};
};
struct Speech {
  Classes classes = 0;
  Contour contour = Contour::wavering;
  Timbre timbre = Timbre::humming;
};

constexpr Classes bits(std::initializer_list<std::size_t> expressions) {
  Classes set = 0;
  for (const std::size_t e : expressions) set |= class_bit(e);
  return set;
}

// Melody and timbre of each expression's voice, in the order of expression(): no two have both in
// common.
struct Manner {
  Contour contour;
  Timbre timbre;
};
constexpr std::array<Manner, kExpressionCount> kManners = {
    Manner{Contour::level, Timbre::clear},     Manner{Contour::rising, Timbre::clear},
    Manner{Contour::falling, Timbre::breathy}, Manner{Contour::falling, Timbre::rough},
    Manner{Contour::rising, Timbre::breathy},  Manner{Contour::level, Timbre::breathy},
    Manner{Contour::level, Timbre::rough}};

// A face without a voice; its mouth moves as if it spoke.
struct Face {
  double brows = 0, lift = 0, eyes = 0, curve = 0, open = 0, tilt = 0;
};
Expression face(const Face& f) {
  Expression e{};
  e.brow_angle = f.brows;
  e.brow_height = f.lift;
  e.eye_open = f.eyes;
  e.mouth_curve = f.curve;
  e.mouth_open = f.open;
  e.mouth_tilt = f.tilt;
  e.syllables = 3;
  return e;
}

// Faces that fit several expressions, which differ in melody and in timbre; and those of one.
const std::vector<Look>& looks() {
  static const std::vector<Look> kAll = [] {
    const Expression scowl =
        face({.brows = 0, .lift = 0.40, .eyes = 0.10, .curve = -0.22, .tilt = 0.12});
    const Expression grin =
        face({.brows = -0.15, .lift = 0.54, .eyes = 0.27, .curve = 0.14, .open = 0.06});
    const Expression blank =
        face({.brows = 0.15, .lift = 0.46, .eyes = 0.24, .curve = -0.03, .open = 0.13});
    std::vector<Look> all = {{bits({sad, disgusted}), scowl},
                             {bits({glad, afraid}), grin},
                             {bits({calm, startled, angry}), blank}};
    for (std::size_t e = 0; e < kExpressionCount; ++e) all.push_back({class_bit(e), expression(e)});
    return all;
  }();
  return kAll;
}

// Voices of one expression, and those that let one of the two cues be heard.
const std::vector<Speech>& speeches() {
  static const std::vector<Speech> kAll = [] {
    std::vector<Speech> all;
    for (std::size_t e = 0; e < kExpressionCount; ++e)
      all.push_back({class_bit(e), kManners[e].contour, kManners[e].timbre});
    for (const Contour contour : {Contour::level, Contour::rising, Contour::falling}) {
      Speech speech{.contour = contour};
      for (std::size_t e = 0; e < kExpressionCount; ++e)
        if (kManners[e].contour == contour) speech.classes |= class_bit(e);
      all.push_back(speech);
    }
    for (const Timbre timbre : {Timbre::clear, Timbre::breathy, Timbre::rough}) {
      Speech speech{.timbre = timbre};
      for (std::size_t e = 0; e < kExpressionCount; ++e)
        if (kManners[e].timbre == timbre) speech.classes |= class_bit(e);
      all.push_back(speech);
    }
    return all;
  }();
  return kAll;
}

std::string_view evidence(const Speech& speech) {
  if (speech.timbre == Timbre::humming)
    return speech.contour == Contour::rising    ? "it hums upwards"
           : speech.contour == Contour::falling ? "it hums downwards"
                                                : "it hums evenly";
  return speech.timbre == Timbre::clear     ? "a clear voice"
         : speech.timbre == Timbre::breathy ? "a breathy voice"
                                            : "a rough voice";
}

}  // namespace

const Cues& emotion_cues() {
  static const Cues kCues = [] {
    Cues cues;
    for (const Look& look : looks()) cues.pictures.push_back(look.classes);
    for (const Speech& speech : speeches()) cues.sounds.push_back(speech.classes);
    return cues;
  }();
  return kCues;
}

Result<Scene> render_emotion_cues(const SynthRequest& request) {
  const Level& level = level_of(request.difficulty);
  const auto& words = emotion_words(request.table().id);
  Classes known = 0;
  for (std::size_t e = 0; e < kExpressionCount; ++e)
    if (!words[e].empty()) known |= class_bit(e);
  const std::size_t target = emotion_of_turn(request);
  Rng rng = request.stream(SynthRequest::Part::play);
  const DrawnCues drawn = draw_cues(emotion_cues(), known, target, level, rng);
  const Look& look = *std::ranges::find(looks(), drawn.picture, &Look::classes);
  const Speech& speech = *std::ranges::find(speeches(), drawn.sound, &Speech::classes);
  const Person person = make_person(rng);

  const ClipPaths paths = emotion_paths(request);
  const std::string seen = only_class(look.classes) ? "a plain face; " : "an unclear face; ";
  Scene scene{
      .fields = emotion_fields(request, words[target], seen + std::string(evidence(speech))),
      .senses = drawn.senses};
  if (!request.media) return scene;
  const VideoFormat format;
  Rng picture_rng = request.stream(SynthRequest::Part::picture);
  const Canvas behind = textured_background(format.width, format.height, picture_rng);
  Camera camera(level, picture_rng);
  CRABCAST_TRY(add_video(scene, "video/" + paths.video, format, kFaceSeconds, behind,
                         [&](Canvas& canvas, double t) {
                           paint_face(canvas, look.face, person, t);
                           camera.shoot(canvas, t);
                         }));
  Rng sound_rng = request.stream(SynthRequest::Part::sound);
  Waveform wave = speak(speech.contour, speech.timbre, person, level, sound_rng);
  CRABCAST_TRY(add_audio(scene, "audio/" + paths.audio, wave));
  return scene;
}

}  // namespace crabcast::data
