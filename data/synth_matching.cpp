// a2v and v2a: which of two films a sound belongs to, and which of two sounds a film. It is the one
// in which all that is heard is seen.
#include <algorithm>
#include <array>
#include <utility>

#include "data/stage_media.h"

namespace crabcast::data {
namespace {

// What there is two of: the one that matches, and another one.
template <class T>
struct Pair {
  T right, wrong;
  // In the order of the row's fields.
  [[nodiscard]] std::array<const T*, 2> in_order(bool right_first) const {
    if (right_first) return {&right, &wrong};
    return {&wrong, &right};
  }
};

template <class Things>
std::string names_of(const Things& things, const auto& kind_of) {
  std::string text;
  for (const auto& thing : things)
    text += (text.empty() ? "" : ", ") + std::string(info(kind_of(thing)).name);
  return text;
}

std::string names_of(const std::vector<Thing>& things) {
  return names_of(things, [](const Thing& thing) { return thing.kind; });
}
std::string names_of(const Picture& picture) {
  return names_of(picture, [](const Seen& seen) { return seen.kind(); });
}
std::string names_of(const Sound& sound) {
  return names_of(sound, [](const Heard& heard) { return heard.kind; });
}

// The row's values, but for what there is two of; `heard` and `seen` are those that match.
nlohmann::json fields_of(bool two_videos, bool right_first, const std::string& heard,
                         const std::string& seen) {
  const std::string final = std::string(two_videos ? "video" : "audio") + (right_first ? "1" : "2");
  nlohmann::json fields = {{"label", make_target("I hear " + heard + "; I see " + seen, final)},
                           {two_videos ? "audio_event" : "video_event", two_videos ? heard : seen}};
  fields[two_videos ? "correct_video" : "correct_audio"] = final;
  return fields;
}

// Renders the files of one row. `film` and `record` add one.
template <class Film, class Record>
Result<Scene> render(const SynthRequest& request, bool right_first, const Pair<Film>& films,
                     const Pair<Record>& sounds, const auto& add_film, const auto& add_sound) {
  const bool two_videos = request.table().videos > 1;
  const std::string clip = request.clip();
  Scene scene;
  scene.fields = fields_of(two_videos, right_first, names_of(sounds.right), names_of(films.right));
  const auto add_one = [&](const std::string& kind, const std::string& number,
                           const std::string& ending, const auto& content,
                           const auto& add) -> Status {
    const std::string file = clip + (number.empty() ? "" : "_" + number) + ending;
    scene.fields[kind + number + "_path"] = file;
    if (!number.empty()) scene.fields[kind + number + "_event"] = names_of(content);
    return request.media ? add(scene, kind + "/" + file, content) : Status();
  };
  const auto add_both = [&](const std::string& kind, const std::string& ending, bool two,
                            const auto& pair, const auto& add) -> Status {
    if (!two) return add_one(kind, "", ending, pair.right, add);
    const auto [first, second] = pair.in_order(right_first);
    CRABCAST_TRY(add_one(kind, "1", ending, *first, add));
    return add_one(kind, "2", ending, *second, add);
  };
  CRABCAST_TRY(add_both("video", ".mp4", two_videos, films, add_film));
  CRABCAST_TRY(add_both("audio", ".mp3", !two_videos, sounds, add_sound));
  return scene;
}

}  // namespace

// Each film shows two things of its own, and a sound is of one of them.
Result<Scene> render_matching(const SynthRequest& request, Rng& rng) {
  constexpr double kSeconds = 10;
  std::vector<Thing> four = things_in_a_row(4, rng);
  set_kind(four, 0, static_cast<Kind>(request.turn(kKindCount)));
  recolour(four, rng);
  const auto side_by_side = [&](Thing left, Thing right) {
    if (rng.chance(0.5)) std::swap(left, right);
    left.x = 0.3, right.x = 0.7;
    return std::vector{left, right};
  };
  const Pair<std::vector<Thing>> films{side_by_side(four[0], four[1]),
                                       side_by_side(four[2], four[3])};
  const Pair<std::vector<Thing>> sounds{{four[0]}, {four[2]}};

  const auto film = [&](Scene& scene, const std::string& path, const std::vector<Thing>& things) {
    VideoFormat format;
    format.width = format.height = 112;
    const Canvas behind = background(format.width, format.height, rng);
    return add_video(scene, path, format, kSeconds, behind, [&](Canvas& canvas, double time) {
      for (const Thing& thing : things) canvas.draw(thing.swaying(time));
    });
  };
  const auto record = [&](Scene& scene, const std::string& path, const std::vector<Thing>& things) {
    Waveform wave(kSeconds, rng);
    for (const Thing& thing : things) wave.add_loop(timbre(thing.kind, rng), 0.8, 0, kSeconds);
    return add_audio(scene, path, wave);
  };
  return render(request, rng.chance(0.5), films, sounds, film, record);
}

// The film or sound that does not match differs in one kind only: one that is heard and not seen.
Result<Scene> render_matching_play(const SynthRequest& request) {
  Rng rng = request.stream(SynthRequest::Part::play);
  const Level& level = level_of(request.difficulty);
  const std::vector<Kind> dealt = shuffled_kinds(rng);
  const auto count = static_cast<std::size_t>(rng.range(level.fewest, level.most));
  std::vector<Kind> kinds(dealt.begin(), dealt.begin() + static_cast<std::ptrdiff_t>(count));
  const Kind outside = dealt[count];

  Picture right = draw_row(level, kinds, rng);
  Sound heard = draw_sound(level, right, rng.range(1, static_cast<int>(count) - 1), {}, rng);
  const std::size_t odd =
      static_cast<std::size_t>(rng.range(0, static_cast<int>(heard.size()) - 1));
  std::replace(kinds.begin(), kinds.end(), heard[odd].kind, outside);
  rng.shuffle(kinds);
  Picture wrong = draw_row(level, kinds, rng);
  Sound other = heard;
  other[odd].kind = outside;

  Rng picture_rng = request.stream(SynthRequest::Part::picture);
  Rng sound_rng = request.stream(SynthRequest::Part::sound);
  const auto add_film = [&](Scene& scene, const std::string& path, const Picture& picture) {
    return film(scene, path, request, picture, picture_rng);
  };
  const auto add_sound = [&](Scene& scene, const std::string& path, const Sound& sound) {
    return record(scene, path, request, sound, sound_rng);
  };
  auto scene = render(request, rng.chance(0.5), Pair<Picture>{std::move(right), std::move(wrong)},
                      Pair<Sound>{std::move(heard), std::move(other)}, add_film, add_sound);
  // With the other sound the other film would be right, and the other way round.
  if (scene) scene->senses = kBothSenses;
  return scene;
}

}  // namespace crabcast::data
