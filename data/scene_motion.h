// How a thing moves, and the sound that follows its motion: the scenes of ks and ucf.
#pragma once

#include <cmath>

#include "data/scene.h"
#include "data/scene_sound.h"
#include "data/synth_random.h"

namespace crabcast::data {

enum class Action { bouncing, spinning, sliding, growing, shaking, blinking, circling, falling };
inline constexpr int kActionCount = 8;
inline constexpr double kMotionSeconds = 10;

// One clip's motion. Rates keep away from whole and half turns a second, so that pictures one
// second apart differ.
struct Motion {
  Action action{};
  Sprite rest;
  double rate = 0.3;  // turns a second
  double start = 0;   // turns

  [[nodiscard]] double turns(double t) const { return rate * t + start; }
  [[nodiscard]] double share(double t) const { return turns(t) - std::floor(turns(t)); }
  [[nodiscard]] bool visible(double t) const {
    return action != Action::blinking || share(t) < 0.5;
  }
  [[nodiscard]] Sprite at(double t) const;
};

// A motion with a thing, a pace and a start of its own.
Motion make_motion(Action action, Rng& rng);
// kMotionSeconds of it.
Waveform sound_of(const Motion& motion, Rng& rng);

}  // namespace crabcast::data
