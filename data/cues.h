// Cues: what one sense says of a motion or of an expression, as the set of classes that it leaves
// open. The classes that both senses leave open are one: the answer.
//
// A clear picture leaves one class open, a shared one those that look alike; sounds likewise. A
// shared picture with a shared sound has one class in common that neither of the two says alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "data/difficulty.h"
#include "data/senses.h"
#include "data/synth_random.h"

namespace crabcast::data {

using Classes = std::uint16_t;  // a bit for each class

constexpr Classes class_bit(std::size_t index) {
  return static_cast<Classes>(1U << index);
}
// The class of a set that has one only.
std::optional<std::size_t> only_class(Classes classes);

struct Cues {
  std::vector<Classes> pictures = {}, sounds = {};  // what may be seen, and heard
};
struct DrawnCues {
  Classes picture = 0, sound = 0;
  Senses senses = {};
};

// A picture and a sound that have `target` in common and no other class. With the chance of
// `level.both` each leaves more than one class open; else one of the two is clear, by turns of
// chance. Where a class has no such shared cues, as one of the two that look alike is not among
// the `known` ones, one sense is enough. `cues` hold a clear picture and a clear sound of each.
DrawnCues draw_cues(const Cues& cues, Classes known, std::size_t target, const Level& level,
                    Rng& rng);
// What may be seen and heard of the actions, and of the expressions.
const Cues& action_cues();   // cue_action.cpp
const Cues& emotion_cues();  // cue_emotion.cpp
// For what is seen and heard, which of them are needed.
Senses senses_needed(const Cues& cues, Classes known, Classes picture, Classes sound);

}  // namespace crabcast::data
