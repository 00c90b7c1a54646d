// A face and the melody of a voice that show one expression: the scenes of the emotion data sets.
#pragma once

#include <array>
#include <string_view>

#include "data/scene.h"
#include "data/scene_sound.h"
#include "data/synth_random.h"

namespace crabcast::data {

inline constexpr double kFaceSeconds = 4;

// Lengths as shares of the head's radius; angles in radians, positive = inner end lowered.
struct Expression {
  std::string_view evidence;
  // face
  double brow_angle, brow_height;
  double eye_open;     // height of the eyes
  double mouth_curve;  // positive: corners up
  double mouth_open;
  double mouth_tilt;
  // voice
  double pitch;      // Hz
  double drift;      // octaves over the clip
  double glide;      // octaves in each syllable
  double tremor;     // octaves, at 9 Hz
  double syllables;  // a second
  double loudness;
  double breath;
};

inline constexpr std::size_t kExpressionCount = 7;
// calm glad sad angry startled afraid disgusted
const Expression& expression(std::size_t index);

struct Person {
  Colour skin = {};
  double radius = 0.36, x = 0.5, y = 0.52;
  double pitch = 1;           // factor
  double first_syllable = 0;  // shift, in syllables
};
Person make_person(Rng& rng);

void paint_face(Canvas& canvas, const Expression& e, const Person& person, double t);
// kFaceSeconds of it.
Waveform speak(const Expression& e, const Person& person, Rng& rng);

}  // namespace crabcast::data
