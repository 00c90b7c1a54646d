// What the difficulties `normal` and `hard` of the synthetic corpus mean, in numbers: one table.
// `easy` has scenes of its own (synth_*.cpp); the others are staged (stage.h, cues.h).
#pragma once

#include "protocol/job_spec.h"

namespace crabcast::data {

struct Level {
  int fewest = 0, most = 0;  // things in a picture
  int hidden = 0;            // sounds, at most, whose source is not in the picture
  double smallest = 0;       // radius of a thing, share of the picture's side
  double softer = 0;         // gain of one rank of loudness over that of the rank above
  double both = 0;           // share of actions and emotions for which one sense is not enough
  double contrast = 0;       // of the flattest picture; 1: as drawn
  int grain = 0;             // camera noise, at most, of 255
  double hiss = 0;           // noise in the sound, RMS at most
};

inline constexpr Level kNormal{.fewest = 2,
                               .most = 4,
                               .hidden = 1,
                               .smallest = 0.10,
                               .softer = 0.5,
                               .both = 0.5,
                               .contrast = 0.85,
                               .grain = 4,
                               .hiss = 0.002};
inline constexpr Level kHard{.fewest = 3,
                             .most = 5,
                             .hidden = 2,
                             .smallest = 0.08,
                             .softer = 0.6,
                             .both = 0.8,
                             .contrast = 0.7,
                             .grain = 10,
                             .hiss = 0.004};

constexpr const Level& level_of(Difficulty difficulty) {
  return difficulty == Difficulty::hard ? kHard : kNormal;
}

}  // namespace crabcast::data
