// Lessons about what happens: motions, faces, and events with a start and an end.

#include <algorithm>
#include <array>

#include "data/decode.h"
#include "data/lesson_paint.h"
#include "data/lesson_scene.h"
#include "data/scene_face.h"
#include "data/scene_motion.h"
#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

using Words = std::array<std::string_view, 8>;
constexpr Words kMoves = {"hops",    "twists",   "drifts", "inflates",
                          "jitters", "flickers", "orbits", "sinks"};
constexpr Words kNoises = {"thuds",   "purr", "waver",   "crescendo",
                           "crackle", "pips", "vibrato", "swoops"};
constexpr std::array<std::string_view, 8> kShapes = {"disc", "dome",   "bar",   "ring",
                                                     "gem",  "square", "cross", "star"};

constexpr std::array<std::string_view, kExpressionCount> kMoods = {
    "even", "merry", "gloomy", "furious", "amazed", "timid", "repelled"};
constexpr std::array<std::string_view, kExpressionCount> kMouths = {
    "flat", "bent up", "bent down", "tight", "round", "small", "slanted"};
constexpr std::array<std::string_view, kExpressionCount> kVoices = {
    "steady", "bright", "faint", "harsh", "leaping", "trembling", "rasping"};

struct Moment {
  Thing thing;
  int start, end;
  bool seen, heard;
};

std::string span_text(const Moment& m) {
  return std::to_string(m.start) + "-" + std::to_string(m.end);
}

void set_sound(LessonScene& scene, Waveform& wave) {
  scene.sound.assign(wave.samples().begin(), wave.samples().end());
}

}  // namespace

LessonScene motion_scene(Rng& rng, int size) {
  const int which = rng.range(0, kActionCount - 1);
  const Motion motion = make_motion(static_cast<Action>(which), rng);
  LessonScene scene;
  const bool see = rng.chance(0.85), hear = !see || rng.chance(0.7);
  if (see) {
    scene.video = true;
    scene.frames =
        film(10, size, background(96, 96, rng), kMotionSeconds, [&](Canvas& canvas, double t) {
          if (motion.visible(t)) canvas.draw(motion.at(t));
        });
    scene.add("Shape?", "shape", std::string(kShapes[static_cast<std::size_t>(motion.rest.shape)]));
    scene.add("Colour?", "colour", std::string(motion.rest.colour.name));
  }
  if (hear) {
    Waveform wave = sound_of(motion, rng);
    set_sound(scene, wave);
    if (!see && rng.chance(0.7)) scene.sound.resize(kSampleRate * 3);
  }
  const auto at = static_cast<std::size_t>(which);
  for (int i = 0; i < 2; ++i) {
    if (see) scene.add("Move?", "move", std::string(kMoves[at]));
    if (hear) scene.add("Noise?", "noise", std::string(kNoises[at]));
  }
  return scene;
}

LessonScene face_scene(Rng& rng, int size) {
  const auto which = static_cast<std::size_t>(rng.range(0, int(kExpressionCount) - 1));
  const Expression& e = expression(which);
  const Person person = make_person(rng);
  LessonScene scene;
  const bool see = rng.chance(0.85), hear = !see || rng.chance(0.6);
  if (see) {
    scene.video = hear || rng.chance(0.4);
    const Canvas behind = background(96, 96, rng);
    scene.frames = film(scene.video ? 4 : 1, size, behind, kFaceSeconds,
                        [&](Canvas& canvas, double t) { paint_face(canvas, e, person, t); });
    scene.add("Mouth?", "mouth", std::string(kMouths[which]));
  }
  if (hear) {
    Waveform wave = speak(e, person, rng);
    set_sound(scene, wave);
    scene.add("Voice?", "voice", std::string(kVoices[which]));
  }
  for (int i = 0; i < 2; ++i) scene.add("Mood?", "mood", std::string(kMoods[which]));
  return scene;
}

LessonScene events_scene(Rng& rng, int size) {
  constexpr int kSeconds = 10;
  const int count = rng.range(1, 2);
  std::vector<Thing> things = things_in_a_row(count + 1, rng);
  rng.shuffle(things);
  LessonScene scene;
  const bool see = rng.chance(0.6), hear = !see || rng.chance(0.7);
  std::vector<Moment> moments;
  for (int i = 0; i < count; ++i) {
    const int start = rng.range(0, 7);
    Moment m{.thing = things[static_cast<std::size_t>(i)],
             .start = start,
             .end = rng.range(start + 2, 10),
             .seen = see,
             .heard = hear};
    if (see && hear && rng.chance(0.5)) (rng.chance(0.5) ? m.seen : m.heard) = false;
    moments.push_back(m);
  }
  std::ranges::sort(moments, [](const Moment& a, const Moment& b) {
    return std::pair(a.start, a.thing.name()) < std::pair(b.start, b.thing.name());
  });
  if (see) {
    scene.video = true;
    const Canvas behind = background(112, 112, rng);
    scene.frames = film(10, size, behind, kSeconds, [&](Canvas& canvas, double t) {
      for (const Moment& m : moments)
        if (m.seen && m.start <= t && t < m.end) canvas.draw(m.thing.swaying(t));
      canvas.draw(things.back().swaying(t));
    });
    scene.add("What stays?", "stays", things.back().name());
  }
  if (hear) {
    Waveform wave(kSeconds, rng);
    for (const Moment& m : moments)
      if (m.heard) wave.add_loop(timbre(m.thing.kind, rng), 0.8, m.start, m.end);
    set_sound(scene, wave);
  }
  std::string all, eye, ear;
  for (const Moment& m : moments) {
    const std::string name = m.thing.name();
    const std::string sense = m.seen && m.heard ? "eye and ear" : m.seen ? "eye" : "ear";
    all += (all.empty() ? "" : ", ") + name + " " + span_text(m) + " by " + sense;
    if (m.seen) eye += (eye.empty() ? "" : ", ") + name + " " + span_text(m);
    if (m.heard) ear += (ear.empty() ? "" : ", ") + name + " " + span_text(m);
    scene.add("Span of " + name + "?", name, span_text(m));
    if (see && hear) scene.add("Sense of " + name + "?", name + " by", sense);
  }
  if (see) scene.add("Spans seen?", "seen", eye.empty() ? "nothing" : eye);
  if (hear) scene.add("Spans heard?", "heard", ear.empty() ? "nothing" : ear);
  for (int i = 0; i < 2; ++i) scene.add("All spans?", "spans", all);
  const int second = rng.range(0, kSeconds - 1);
  std::string now;
  for (const Moment& m : moments)
    if (m.start <= second && second < m.end) now += (now.empty() ? "" : ", ") + m.thing.name();
  scene.add("New at " + std::to_string(second) + "?", "at " + std::to_string(second),
            now.empty() ? "nothing" : now);
  return scene;
}

}  // namespace crabcast::data
