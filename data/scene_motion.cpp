#include "data/scene_motion.h"

#include <array>
#include <numbers>

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

}  // namespace

Sprite Motion::at(double t) const {
  Sprite s = rest;
  const double round = kTurn * turns(t);
  switch (action) {
    case Action::bouncing:
      s.y = 0.84 - s.radius * 0.5 - 0.55 * std::abs(std::sin(std::numbers::pi * turns(t)));
      break;
    case Action::spinning:
      s.angle = round;
      break;
    case Action::sliding:
      s.x = 0.5 + 0.34 * std::sin(round);
      break;
    case Action::growing:
      s.radius = 0.06 + 0.036 * t;
      break;
    case Action::shaking:
      s.x += 0.05 * std::sin(kTurn * 7.3 * t);
      s.y += 0.05 * std::sin(kTurn * 9.1 * t + 1);
      break;
    case Action::blinking:
      break;
    case Action::circling:
      s.x = 0.5 + 0.3 * std::cos(round);
      s.y = 0.5 + 0.3 * std::sin(round);
      break;
    case Action::falling:
      s.y = -0.05 + 1.1 * share(t) * share(t);
      break;
  }
  return s;
}

Motion make_motion(Action action, Rng& rng) {
  Motion motion{.action = action, .rest = {}};
  Sprite& s = motion.rest;
  // Shapes without a corner do not show that they turn.
  constexpr std::array kShapes = {Shape::square, Shape::cross, Shape::bar, Shape::star};
  s.shape = rng.pick(kShapes);
  s.colour = rng.pick(colours());
  s.radius = rng.between(0.13, 0.18);
  s.x = rng.between(0.4, 0.6);
  s.y = rng.between(0.4, 0.6);
  motion.start = rng.unit();
  switch (action) {
    case Action::bouncing:
      motion.rate = rng.between(0.63, 0.87);
      break;
    case Action::falling:
      motion.rate = rng.between(0.27, 0.38);
      break;
    case Action::spinning:
      motion.rate = rng.between(0.06, 0.19);
      break;
    default:
      motion.rate = rng.between(0.13, 0.37);
      break;
  }
  return motion;
}

Waveform sound_of(const Motion& motion, Rng& rng) {
  Waveform wave(kMotionSeconds, rng);
  using Tone = Waveform::Tone;
  const double pitch = std::exp2(rng.between(-2, 2) / 12);
  constexpr std::array kSoft = {1.0, 0.3};
  constexpr std::array kRich = {1.0, 0.5, 0.33, 0.25};
  switch (motion.action) {
    case Action::bouncing: {
      const auto thump = [&](double t) { return std::exp(-motion.share(t) / motion.rate / 0.09); };
      wave.add_tone([&](double t) { return Tone{110 * pitch, 0.6 * thump(t)}; }, kSoft);
      wave.add_noise([&](double t) { return 0.25 * thump(t) * thump(t); }, rng);
      break;
    }
    case Action::spinning:
      wave.add_tone(
          [&](double t) {
            return Tone{260 * pitch, 0.16 * (1 + std::sin(kTurn * 8 * motion.turns(t)))};
          },
          kRich);
      break;
    case Action::sliding:
      wave.add_tone(
          [&](double t) {
            return Tone{420 * pitch * std::exp2(1.2 * std::sin(kTurn * motion.turns(t))), 0.3};
          },
          kSoft);
      break;
    case Action::growing:
      wave.add_tone([&](double t) { return Tone{330 * pitch, 0.03 + 0.04 * t}; }, kRich);
      break;
    case Action::shaking:
      wave.add_noise([](double t) { return std::sin(kTurn * 10 * t) > 0 ? 0.4 : 0.03; }, rng);
      break;
    case Action::blinking:
      wave.add_tone(
          [&](double t) {
            return Tone{1000 * pitch, motion.visible(t) ? 0.3 : 0};
          },
          kSoft);
      break;
    case Action::circling:
      wave.add_tone(
          [&](double t) {
            return Tone{520 * pitch + 70 * std::sin(kTurn * 6 * t), 0.3};
          },
          kSoft);
      break;
    case Action::falling:
      wave.add_tone(
          [&](double t) {
            return Tone{1300 * pitch * std::exp2(-2.6 * motion.share(t)), 0.3};
          },
          kSoft);
      break;
  }
  return wave;
}

}  // namespace crabcast::data
