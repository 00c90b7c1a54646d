#include "data/cues.h"

#include <bit>
#include <string>
#include <utility>

namespace crabcast::data {

std::optional<std::size_t> only_class(Classes classes) {
  if (!std::has_single_bit(classes)) return std::nullopt;
  return static_cast<std::size_t>(std::countr_zero(classes));
}

Senses senses_needed(const Cues& cues, Classes known, Classes picture, Classes sound) {
  const auto answer = [known](Classes seen, Classes heard) {
    const auto only = only_class(seen & heard & known);
    return only ? std::to_string(*only) : std::string();
  };
  return senses_needed(answer, picture, sound, cues.pictures, cues.sounds);
}

DrawnCues draw_cues(const Cues& cues, Classes known, std::size_t target, const Level& level,
                    Rng& rng) {
  const Classes wanted = class_bit(target);
  const Senses needed = rng.chance(level.both) ? kBothSenses
                        : rng.chance(0.5)      ? Senses{.picture = true}
                                               : Senses{.sound = true};
  std::vector<std::pair<Classes, Classes>> fitting, clear;
  for (const Classes picture : cues.pictures)
    for (const Classes sound : cues.sounds) {
      if ((picture & sound & known) != wanted) continue;
      const bool picture_says = (picture & known) == wanted, sound_says = (sound & known) == wanted;
      if (picture_says == !needed.sound && sound_says == !needed.picture)
        fitting.emplace_back(picture, sound);
      if (picture_says != sound_says) clear.emplace_back(picture, sound);
    }
  const auto [picture, sound] = rng.pick(fitting.empty() ? clear : fitting);
  return {picture, sound, senses_needed(cues, known, picture, sound)};
}

}  // namespace crabcast::data
