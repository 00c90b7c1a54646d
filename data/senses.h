// Which senses an answer needs, found by counterexample.
//
// An answer is a function of what is seen and what is heard; it is empty where the two do not fit
// together, or not to the question. It needs the sound when the same picture with another sound
// has another answer, and the picture when the same sound with another picture has another one:
// who has one sense only cannot tell the two apart.
#pragma once

#include <algorithm>
#include <string_view>

namespace crabcast::data {

struct Senses {
  bool picture = false, sound = false;
  friend bool operator==(const Senses&, const Senses&) = default;
};
inline constexpr Senses kBothSenses{.picture = true, .sound = true};

// "both", "picture", "sound"; "either" when each of the two alone says it.
constexpr std::string_view to_string(Senses needed) {
  if (needed == kBothSenses) return "both";
  return needed.picture ? "picture" : needed.sound ? "sound" : "either";
}

// `pictures` and `sounds`: what might have been seen and heard instead.
template <class Answer, class Picture, class Sound, class Pictures, class Sounds>
Senses senses_needed(const Answer& answer, const Picture& picture, const Sound& sound,
                     const Pictures& pictures, const Sounds& sounds) {
  const auto truth = answer(picture, sound);
  const auto another = [&](const auto& given) { return !given.empty() && given != truth; };
  return {.picture = std::ranges::any_of(
              pictures, [&](const Picture& other) { return another(answer(other, sound)); }),
          .sound = std::ranges::any_of(
              sounds, [&](const Sound& other) { return another(answer(picture, other)); })};
}

}  // namespace crabcast::data
