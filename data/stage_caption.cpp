// avcap, staged: a sentence says who sounds, who is silent, and what is heard of things that are
// not seen.

#include <algorithm>

#include "data/stage.h"

namespace crabcast::data {
namespace {

// "a red drum beats and a blue bell rings; a green horn is silent; a clock ticks unseen"
std::string describe(const Picture& picture, const Sound& sound) {
  std::string heard, silent, hidden;
  const auto add = [](std::string& list, const std::string& part) {
    list += (list.empty() ? "" : " and ") + part;
  };
  for (const Seen& seen : picture) {
    if (find(sound, seen.kind()) != nullptr)
      add(heard, a_coloured(seen) + " " + std::string(info(seen.kind()).verb));
    else
      add(silent, a_coloured(seen));
  }
  const bool several = silent.find(" and ") != std::string::npos;
  if (!silent.empty()) silent += several ? " are silent" : " is silent";
  for (const Heard& h : sound)
    if (find(picture, h.kind) == nullptr)
      add(hidden, "a " + name_of(h.kind) + " " + std::string(info(h.kind).verb) + " unseen");
  std::string sentence;
  for (const std::string& part : {heard, silent, hidden})
    if (!part.empty()) sentence += (sentence.empty() ? "" : "; ") + part;
  return sentence;
}

}  // namespace

Result<Play> play_caption(const SynthRequest& request, Rng& rng) {
  const Level& level = level_of(request.difficulty);
  std::vector<Kind> kinds = shuffled_kinds(rng);
  std::swap(kinds[0], *std::ranges::find(kinds, static_cast<Kind>(request.turn(kKindCount))));
  const std::span<const Kind> all(kinds);
  const auto things = static_cast<std::size_t>(rng.range(level.fewest, level.fewest + 1));
  std::vector<Kind> seen(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(things));
  rng.shuffle(seen);
  Play play{.picture = draw_row(level, seen, rng), .answer = describe};
  const auto hidden = static_cast<std::size_t>(rng.range(0, 1));
  play.sound = draw_sound(level, play.picture, rng.range(1, static_cast<int>(things)),
                          all.subspan(things, hidden), rng);
  play.senses = senses_needed(play.answer, play.picture, play.sound);
  const std::string sentence = describe(play.picture, play.sound);
  play.fields = {{"video_id", request.clip()},
                 {"label_content", make_target(observed(play.picture, play.sound), sentence)}};
  return play;
}

}  // namespace crabcast::data
