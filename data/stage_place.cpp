// arig, s4, ms3, staged: one of the things in a picture sounds in the second that is asked for,
// among sounds whose source is not in the picture.

#include "data/stage.h"
#include "data/synth_picture.h"

namespace crabcast::data {

Result<Play> play_place(const SynthRequest& request, Rng& rng) {
  const std::string_view id = request.table().id;
  const bool changing = id == "ms3";
  const int seconds = request.table().audio_parts;
  const Level& level = level_of(request.difficulty);
  const int frame = id == "s4" && request.train_row() ? 0 : rng.range(0, seconds - 1);
  for (int draw = 0; draw < kMostDraws; ++draw) {
    std::vector<Kind> kinds = shuffled_kinds(rng);
    std::swap(kinds[0], *std::ranges::find(kinds, static_cast<Kind>(request.turn(kKindCount))));
    const std::span<const Kind> all(kinds);
    const auto things = static_cast<std::size_t>(rng.range(level.fewest, level.most + 1));
    const auto hidden = static_cast<std::size_t>(rng.range(1, level.hidden));
    Play play{.picture = draw_cells(level, all.first(things), rng), .frame = frame};
    const int heard = changing ? static_cast<int>(things) : 1;
    play.sound = draw_sound(level, play.picture, heard, all.subspan(things, hidden), rng);
    if (changing)
      for (Heard& h : play.sound) {
        const int from = rng.range(0, seconds - 1);
        h.when = {from, rng.range(from + 1, seconds)};
      }
    play.answer = [frame](const Picture& picture, const Sound& sound) -> std::string {
      const Seen* only = nullptr;
      for (const Seen* seen : sounding(picture, sound)) {
        if (!find(sound, seen->kind())->when.holds(frame)) continue;
        if (only != nullptr) return "";
        only = seen;
      }
      return only == nullptr ? "" : place_key(*only);
    };
    const std::string key = play.answer(play.picture, play.sound);
    if (key != place_key(play.picture[0])) continue;
    play.senses = senses_needed(play.answer, play.picture, play.sound);
    if (play.senses != kBothSenses) continue;

    const auto found = find_thing(play.picture[0].thing);
    if (!found) return fail(found.error());
    const Box& box = found->box;
    const std::string name = name_of(play.picture[0].kind());
    const std::string answer = id == "arig" ? name + " " + format_box(box) : found->answer;
    play.fields = {{"a_obj", name},
                   {"frame_idx", frame},
                   {"top_left", {int(box.x1), int(box.y1)}},
                   {"bottom_right", {int(box.x2), int(box.y2)}},
                   {"label_content", make_target(observed(play.picture, play.sound), answer)}};
    return play;
  }
  return no_scene_fits(request);
}

}  // namespace crabcast::data
