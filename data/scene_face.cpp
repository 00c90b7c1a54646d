#include "data/scene_face.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

constexpr std::array<Expression, kExpressionCount> kExpressions = {
    Expression{"plain face, level voice", 0, 0.42, 0.20, 0, 0, 0, 125, 0, 0, 0, 3, 0.20, 0.01},
    Expression{"smile, lively voice", 0, 0.50, 0.20, 0.30, 0, 0, 200, 0, 0.5, 0, 4.5, 0.28, 0.01},
    Expression{"mouth down, slow low voice", -0.4, 0.44, 0.11, -0.26, 0, 0, 105, -0.5, -0.2, 0, 1.7,
               0.12, 0.02},
    Expression{"frown, loud rough voice", 0.5, 0.34, 0.15, -0.10, 0, 0, 150, 0.1, -0.35, 0, 5, 0.45,
               0.12},
    Expression{"open mouth, voice jumps up", 0, 0.62, 0.34, 0, 0.34, 0, 165, 0, 1.2, 0, 0.8, 0.35,
               0.02},
    Expression{"wide eyes, shaky voice", -0.35, 0.58, 0.32, -0.08, 0.10, 0, 245, 0, 0.1, 0.12, 6,
               0.18, 0.06},
    Expression{"crooked mouth, creaky voice", 0.25, 0.36, 0.09, -0.14, 0, 0.35, 88, -0.3, -0.5,
               0.03, 2.4, 0.26, 0.08},
};

// Position inside the current syllable, 0 to 1, and how loud it is there.
double syllable(const Expression& e, const Person& person, double t) {
  const double count = e.syllables * t + person.first_syllable;
  return count - std::floor(count);
}
double openness(const Expression& e, const Person& person, double t) {
  const double share = syllable(e, person, t);
  return share < 0.75 ? std::sin(std::numbers::pi * share / 0.75) : 0;
}

}  // namespace

const Expression& expression(std::size_t index) {
  return kExpressions[index];
}

Person make_person(Rng& rng) {
  constexpr std::array<Colour, 4> kSkins = {Colour{"", 244, 208, 176}, Colour{"", 222, 172, 126},
                                            Colour{"", 176, 122, 84}, Colour{"", 250, 222, 100}};
  return {.skin = rng.pick(kSkins),
          .radius = rng.between(0.32, 0.38),
          .x = rng.between(0.45, 0.55),
          .y = rng.between(0.49, 0.54),
          .pitch = rng.between(0.88, 1.18),
          .first_syllable = rng.unit()};
}

void paint_face(Canvas& canvas, const Expression& e, const Person& person, double t) {
  const double r = person.radius;
  const double shiver = e.tremor * 0.12 * std::sin(kTurn * 3.1 * t);
  const double x = person.x + shiver, y = person.y + 0.01 * std::sin(kTurn * 0.6 * t);
  const Colour dark{"", 40, 28, 30}, white{"", 250, 250, 250}, lips{"", 140, 30, 40};
  canvas.draw({.colour = person.skin, .x = x, .y = y, .radius = r, .aspect = 1.12});
  for (const double side : {-1.0, 1.0}) {
    const double eye_x = x + side * 0.38 * r, eye_y = y - 0.22 * r;
    canvas.draw(
        {.colour = white, .x = eye_x, .y = eye_y, .radius = 0.2 * r, .aspect = e.eye_open / 0.2},
        false);
    canvas.draw({.colour = dark,
                 .x = eye_x,
                 .y = eye_y,
                 .radius = 0.09 * r,
                 .aspect = std::min(1.0, e.eye_open / 0.12)},
                false);
    canvas.draw({.shape = Shape::bar,
                 .colour = dark,
                 .x = eye_x,
                 .y = y - (0.22 + e.brow_height) * r,
                 .radius = 0.26 * r,
                 .aspect = 0.6,
                 .angle = -side * e.brow_angle},
                false);
  }
  const double mouth_y = y + 0.52 * r, half = 0.40 * r;
  const double open = e.mouth_open + 0.10 * openness(e, person, t);
  canvas.draw({.colour = lips,
               .x = x,
               .y = mouth_y,
               .radius = half * 0.55,
               .aspect = open * r / (half * 0.55)},
              false);
  if (e.mouth_open > 0.2) return;  // wide open: no line
  for (int i = -6; i <= 6; ++i) {
    const double s = i / 6.0;
    const double lift = e.mouth_curve * r * (s * s - 0.5) + e.mouth_tilt * half * s;
    canvas.draw({.colour = lips, .x = x + half * s, .y = mouth_y - lift, .radius = 0.055 * r},
                false);
  }
}

Waveform speak(const Expression& e, const Person& person, Rng& rng) {
  Waveform wave(kFaceSeconds, rng);
  // A buzz with two formants: harmonics near 600 and 1500 Hz are stronger.
  std::array<double, 14> harmonics{};
  double sum = 0;
  for (std::size_t k = 0; k < harmonics.size(); ++k) {
    const double hertz = e.pitch * person.pitch * static_cast<double>(k + 1);
    const auto near = [&](double formant, double width) {
      return std::exp(-(hertz - formant) * (hertz - formant) / (2 * width * width));
    };
    harmonics[k] = 0.35 / static_cast<double>(k + 1) + near(600, 200) + 0.5 * near(1500, 250);
    sum += harmonics[k] * harmonics[k];
  }
  for (double& h : harmonics) h /= std::sqrt(sum);
  wave.add_tone(
      [&](double t) {
        const double octaves = e.drift * t / kFaceSeconds +
                               e.glide * (syllable(e, person, t) - 0.4) +
                               e.tremor * std::sin(kTurn * 9 * t);
        return Waveform::Tone{e.pitch * person.pitch * std::exp2(octaves),
                              e.loudness * openness(e, person, t)};
      },
      harmonics);
  wave.add_noise([&](double t) { return e.breath * openness(e, person, t); }, rng);
  return wave;
}

}  // namespace crabcast::data
