#include "data/stage.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace crabcast::data {
namespace {

constexpr double kLoudest = 0.8;

std::vector<Kind> kinds_outside(const auto& among) {
  std::vector<Kind> kinds;
  for (std::size_t k = 0; k < kKindCount; ++k)
    if (find(among, static_cast<Kind>(k)) == nullptr) kinds.push_back(static_cast<Kind>(k));
  return kinds;
}

// A thing of a kind in a colour of its own; its place is the caller's.
Picture deal(std::span<const Kind> kinds, double smallest, double largest, Rng& rng) {
  Picture picture;
  std::vector<Colour> left(colours().begin(), colours().end());
  rng.shuffle(left);
  for (std::size_t i = 0; i < kinds.size(); ++i)
    picture.push_back({.thing = {.kind = kinds[i],
                                 .colour = left[i % left.size()],
                                 .radius = rng.between(smallest, largest)},
                       .sway_x = rng.between(0, 0.02),
                       .sway_y = rng.between(0, 0.03),
                       .tilt = rng.between(0, 0.25),
                       .pace = rng.between(0.15, 0.85),
                       .start = rng.unit()});
  return picture;
}

// Calls visit(i, j) for each pair i < j.
template <class Visit>
void for_pairs(std::size_t count, const Visit& visit) {
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = i + 1; j < count; ++j) visit(i, j);
}

// Both halves of a clip, for what might have been there at another time.
constexpr std::array kHalves = {Blocks{0, kBlocks / 2}, Blocks{kBlocks / 2, kBlocks}};

}  // namespace

Blocks common(Blocks a, Blocks b) {
  return {std::max(a.from, b.from), std::min(a.to, b.to)};
}

Result<Play> play_of(const SynthRequest& request) {
  Rng rng = request.stream(SynthRequest::Part::play);
  const std::string_view id = request.table().id;
  switch (request.table().task) {
    case Task::av_question_answering:
      return id == "avqa" ? play_question(request, rng) : play_choice(request, rng);
    case Task::temporal_localization:
      return play_time(request, rng);
    case Task::segmentation:
      return id == "ref_avs" ? play_reference(request, rng) : play_place(request, rng);
    case Task::captioning:
      return play_caption(request, rng);
    default:
      return play_place(request, rng);
  }
}

tl::unexpected<Error> no_scene_fits(const SynthRequest& request) {
  return fail(Errc::internal, "no scene fits " + std::string(request.table().id) + " " +
                                  request.clip() + " of seed " + std::to_string(request.seed));
}

Picture draw_row(const Level& level, std::span<const Kind> kinds, Rng& rng) {
  const double slot = 1.0 / static_cast<double>(kinds.size());
  // Neighbours stand at different heights, so a thing may be as wide as its slot.
  Picture picture = deal(kinds, level.smallest, std::min(0.16, 0.55 * slot + 0.03), rng);
  bool high = rng.chance(0.5);
  for (std::size_t i = 0; i < picture.size(); ++i, high = !high) {
    Thing& thing = picture[i].thing;
    thing.x = std::clamp(slot * (static_cast<double>(i) + 0.5 + rng.between(-0.12, 0.12)),
                         thing.radius + 0.02, 0.98 - thing.radius);
    thing.y = (high ? 0.29 : 0.71) + rng.between(-0.08, 0.08);
  }
  return picture;
}

Picture draw_cells(const Level& level, std::span<const Kind> kinds, Rng& rng) {
  const int columns = kinds.size() <= 4 ? 2 : 3;
  const double width = 1.0 / columns;
  Picture picture = deal(kinds, level.smallest, 0.34 * width, rng);
  std::vector<int> cells(static_cast<std::size_t>(columns) * 2);
  for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = static_cast<int>(i);
  rng.shuffle(cells);
  for (std::size_t i = 0; i < picture.size(); ++i) {
    Thing& thing = picture[i].thing;
    thing.x = width * (cells[i] % columns + 0.5 + rng.between(-0.12, 0.12));
    thing.y = 0.5 * (cells[i] / columns + 0.5 + rng.between(-0.12, 0.12));
  }
  return picture;
}

Sound draw_sound(const Level& level, const Picture& picture, int seen, std::span<const Kind> hidden,
                 Rng& rng) {
  std::vector<Kind> kinds;
  for (const Seen& thing : picture) kinds.push_back(thing.kind());
  rng.shuffle(kinds);
  kinds.resize(std::min(kinds.size(), static_cast<std::size_t>(seen)));
  kinds.insert(kinds.end(), hidden.begin(), hidden.end());
  rng.shuffle(kinds);
  Sound sound;
  double gain = kLoudest;
  for (const Kind kind : kinds) {
    sound.push_back({.kind = kind, .gain = gain});
    gain *= level.softer;
  }
  rng.shuffle(sound);
  return sound;
}

void spread(Sound& sound, Rng& rng) {
  std::array<int, 7> starts = {0, 1, 2, 3, 4, 5, 6};
  rng.shuffle(starts);
  for (std::size_t i = 0; i < sound.size(); ++i) {
    const int from = starts[i % starts.size()];
    sound[i].when = {from, rng.range(from + 3, kBlocks)};
  }
}

std::vector<Picture> other_pictures(const Picture& picture) {
  std::vector<Picture> others;
  const auto changed = [&](const auto& change) {
    Picture other = picture;
    change(other);
    others.push_back(std::move(other));
  };
  for_pairs(picture.size(), [&](std::size_t i, std::size_t j) {
    changed([&](Picture& p) { std::swap(p[i].thing.kind, p[j].thing.kind); });
    changed([&](Picture& p) { std::swap(p[i].thing.colour, p[j].thing.colour); });
    changed([&](Picture& p) { std::swap(p[i].when, p[j].when); });
  });
  for (std::size_t i = 0; i < picture.size(); ++i) {
    for (const Kind kind : kinds_outside(picture))
      changed([&](Picture& p) { p[i].thing.kind = kind; });
    for (const Blocks& half : kHalves) changed([&](Picture& p) { p[i].when = half; });
    if (picture.size() > 1)
      changed([&](Picture& p) { p.erase(p.begin() + static_cast<std::ptrdiff_t>(i)); });
  }
  return others;
}

std::vector<Sound> other_sounds(const Sound& sound) {
  std::vector<Sound> others;
  const auto changed = [&](const auto& change) {
    Sound other = sound;
    change(other);
    others.push_back(std::move(other));
  };
  for_pairs(sound.size(), [&](std::size_t i, std::size_t j) {
    changed([&](Sound& s) { std::swap(s[i].kind, s[j].kind); });
    changed([&](Sound& s) { std::swap(s[i].when, s[j].when); });
  });
  for (const Kind kind : kinds_outside(sound)) {
    for (std::size_t i = 0; i < sound.size(); ++i) changed([&](Sound& s) { s[i].kind = kind; });
    changed([&](Sound& s) { s.push_back({.kind = kind, .gain = kLoudest / 2}); });
  }
  for (std::size_t i = 0; i < sound.size(); ++i) {
    for (const Blocks& half : kHalves) changed([&](Sound& s) { s[i].when = half; });
    if (sound.size() > 1)
      changed([&](Sound& s) { s.erase(s.begin() + static_cast<std::ptrdiff_t>(i)); });
  }
  return others;
}

Senses senses_needed(const AnswerOf& answer, const Picture& picture, const Sound& sound) {
  return senses_needed(answer, picture, sound, other_pictures(picture), other_sounds(sound));
}

const Seen* find(const Picture& picture, Kind kind) {
  const auto at = std::ranges::find(picture, kind, &Seen::kind);
  return at == picture.end() ? nullptr : &*at;
}
const Heard* find(const Sound& sound, Kind kind) {
  const auto at = std::ranges::find(sound, kind, &Heard::kind);
  return at == sound.end() ? nullptr : &*at;
}

std::vector<const Seen*> sounding(const Picture& picture, const Sound& sound) {
  std::vector<const Seen*> found;
  for (const Seen& seen : picture)
    if (find(sound, seen.kind()) != nullptr) found.push_back(&seen);
  return found;
}

std::string name_of(Kind kind) {
  return std::string(info(kind).name);
}
std::string colour_of(const Seen& seen) {
  return std::string(seen.thing.colour.name);
}
std::string a_coloured(const Seen& seen) {
  const std::string colour = colour_of(seen);
  return (colour == "orange" ? "an " : "a ") + colour + " " + name_of(seen.kind());
}

std::string place_key(const Seen& seen) {
  return name_of(seen.kind()) + " at " + std::to_string(seen.thing.x) + ", " +
         std::to_string(seen.thing.y);
}

std::string observed(const Picture& picture, const Sound& sound) {
  std::string seen, heard;
  for (const Seen& s : picture) seen += (seen.empty() ? "I see " : ", ") + name_of(s.kind());
  for (const Heard& h : sound) heard += (heard.empty() ? "; I hear " : ", ") + name_of(h.kind);
  return seen + (heard.empty() ? "; all is silent" : heard);
}

}  // namespace crabcast::data
