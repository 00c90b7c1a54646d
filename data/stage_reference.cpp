// ref_avs, staged: a description points at one of several things, some of which sound, or at none.

#include <algorithm>
#include <array>

#include "data/stage.h"
#include "data/synth_picture.h"

namespace crabcast::data {
namespace {

// What a description means in a scene.
struct Meant {
  enum class As { thing, nothing, unclear } as = As::unclear;
  const Seen* seen = nullptr;
};
constexpr Meant kNothing{.as = Meant::As::nothing}, kUnclear{};

Meant thing_or_nothing(const Seen* seen) {
  return seen == nullptr ? kNothing : Meant{.as = Meant::As::thing, .seen = seen};
}

struct Description {
  std::string text = {};
  std::function<Meant(const Picture&, const Sound&)> find = {};
};

Description coloured(const Picture& picture, const Sound&, Rng& rng) {
  const std::string colour =
      rng.chance(0.2) ? std::string(rng.pick(colours()).name) : colour_of(rng.pick(picture));
  return {"the " + colour + " one that sounds", [=](const Picture& p, const Sound& s) {
            for (const Seen* seen : sounding(p, s))
              if (colour_of(*seen) == colour) return thing_or_nothing(seen);
            return kNothing;
          }};
}

Description of_a_kind(const Picture& picture, const Sound& sound, Rng& rng) {
  // Also one that is heard but not there.
  const Kind kind =
      sound.empty() || rng.chance(0.5) ? rng.pick(picture).kind() : rng.pick(sound).kind;
  return {"the " + name_of(kind) + " that sounds", [=](const Picture& p, const Sound& s) {
            const Seen* seen = find(p, kind);
            return find(s, kind) == nullptr ? kNothing : thing_or_nothing(seen);
          }};
}

// The thing that is `rank` steps below the loudest of those that are seen.
Description of_a_loudness(std::size_t rank, const std::string& text) {
  return {text, [=](const Picture& p, const Sound& s) {
            auto found = sounding(p, s);
            if (found.size() <= rank) return kNothing;
            std::ranges::sort(found, std::greater(),
                              [&](const Seen* seen) { return find(s, seen->kind())->gain; });
            return thing_or_nothing(found[rank]);
          }};
}
Description loudest(const Picture&, const Sound&, Rng&) {
  return of_a_loudness(0, "the loudest one");
}
Description second_loudest(const Picture&, const Sound&, Rng&) {
  return of_a_loudness(1, "the second loudest one");
}

Description silent(const Picture&, const Sound&, Rng&) {
  return {"the silent one", [](const Picture& p, const Sound& s) {
            const Seen* only = nullptr;
            for (const Seen& seen : p) {
              if (find(s, seen.kind()) != nullptr) continue;
              if (only != nullptr) return kUnclear;
              only = &seen;
            }
            return thing_or_nothing(only);
          }};
}

Description leftmost(const Picture&, const Sound&, Rng& rng) {
  const bool left = rng.chance(0.5);
  return {std::string("the ") + (left ? "left" : "right") + " one of those that sound",
          [=](const Picture& p, const Sound& s) {
            constexpr double kClear = 0.15;
            auto found = sounding(p, s);
            if (found.size() < 2) return kNothing;
            std::ranges::sort(
                found, {}, [&](const Seen* seen) { return left ? seen->thing.x : -seen->thing.x; });
            if (std::abs(found[0]->thing.x - found[1]->thing.x) < kClear) return kUnclear;
            return thing_or_nothing(found[0]);
          }};
}

constexpr std::array<Description (*)(const Picture&, const Sound&, Rng&), 6> kDescriptions = {
    coloured, loudest, second_loudest, silent, of_a_kind, leftmost};

std::string key_of(const Meant& meant) {
  switch (meant.as) {
    case Meant::As::thing:
      return place_key(*meant.seen);
    case Meant::As::nothing:
      return "none";
    case Meant::As::unclear:
      break;
  }
  return "";
}

// Six kinds that train rows may hold, and one of the others in front when it is asked for.
std::vector<Kind> deal_kinds(bool unseen, Rng& rng) {
  std::vector<Kind> seen, kept;
  for (const Kind kind : shuffled_kinds(rng)) (is_unseen(kind) ? kept : seen).push_back(kind);
  if (unseen) seen.insert(seen.begin(), kept.front());
  return seen;
}

}  // namespace

Result<Play> play_reference(const SynthRequest& request, Rng& rng) {
  constexpr std::array<std::string_view, 3> kSplits = {"test_s", "test_u", "test_n"};
  constexpr int kCount = static_cast<int>(kDescriptions.size());
  const Level& level = level_of(request.difficulty);
  const std::string_view split =
      request.split == Split::test ? kSplits[static_cast<std::size_t>(request.turn(3))] : "train";
  // One train row in seven asks for what is not there.
  const int turn = request.turn(kCount + 1);
  const bool absent = split == "train" ? turn == kCount : split == "test_n";
  for (int draw = 0; draw < kMostDraws; ++draw) {
    const int form = split == "train" && !absent ? turn : rng.range(0, kCount - 1);
    const std::vector<Kind> kinds = deal_kinds(split == "test_u", rng);
    const std::span<const Kind> all(kinds);
    const auto things = static_cast<std::size_t>(rng.range(std::max(3, level.fewest), level.most));
    const auto hidden = static_cast<std::size_t>(
        rng.range(0, std::min(level.hidden, static_cast<int>(all.size() - things))));
    Play play{.picture = draw_cells(level, all.first(things), rng)};
    play.sound = draw_sound(level, play.picture, rng.range(1, static_cast<int>(things)),
                            all.subspan(things, hidden), rng);
    const Description description =
        kDescriptions[static_cast<std::size_t>(form)](play.picture, play.sound, rng);
    play.answer = [of = description.find](const Picture& picture, const Sound& sound) {
      return key_of(of(picture, sound));
    };
    const Meant meant = description.find(play.picture, play.sound);
    if (meant.as != (absent ? Meant::As::nothing : Meant::As::thing)) continue;
    if (split == "test_u" && !is_unseen(meant.seen->kind())) continue;
    play.senses = senses_needed(play.answer, play.picture, play.sound);
    if (play.senses != kBothSenses) continue;

    play.absent = absent;
    play.frame = rng.range(0, request.table().audio_parts - 1);
    std::string answer = "none";
    if (!absent) {
      play.object = static_cast<std::size_t>(meant.seen - play.picture.data());
      auto found = find_thing(meant.seen->thing);
      if (!found) return fail(std::move(found).error());
      answer = std::move(found->answer);
    }
    play.fields = {{"fid", play.object},
                   {"idx", play.frame},
                   {"frame_idx", play.frame},
                   {"description", description.text},
                   {"object", description.text},
                   {"split", split},
                   {"output", make_target(observed(play.picture, play.sound), answer)}};
    return play;
  }
  return no_scene_fits(request);
}

}  // namespace crabcast::data
