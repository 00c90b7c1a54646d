// What a camera adds to a drawn scene: a textured background, brightness, contrast, flicker, grain.
#pragma once

#include <array>
#include <cstdint>

#include "data/difficulty.h"
#include "data/scene.h"
#include "data/synth_random.h"

namespace crabcast::data {

// A dull background with soft spots and stripes.
Canvas textured_background(int width, int height, Rng& rng);

class Camera {
 public:
  Camera(const Level& level, Rng& rng);
  // Changes a drawn picture into what the camera takes at `time` (seconds).
  void shoot(Canvas& canvas, double time);

 private:
  double contrast_, brightness_, flicker_, flicker_rate_;
  Rng rng_;
  std::array<std::int8_t, 1 << 12> grain_{};  // drawn once; each row begins somewhere in it
};

}  // namespace crabcast::data
