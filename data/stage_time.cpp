// ave, unav, avvp, staged: things come and go, sounds come and go, and an event is where the two
// meet. In ave and unav it is what is seen and heard at once; avvp also asks for what is only seen
// or only heard.

#include <algorithm>
#include <array>

#include "data/stage.h"

namespace crabcast::data {
namespace {

constexpr int kShortest = 2;

Event event_of(Kind kind, Blocks when, Modality modality) {
  return {name_of(kind), double(when.from), double(when.to), modality};
}

std::string text_of(std::vector<Event> events) {
  std::ranges::sort(events, [](const Event& a, const Event& b) {
    return std::pair(a.start, a.name) < std::pair(b.start, b.name);
  });
  return format_events(events);
}

std::vector<Event> seen_and_heard(const Picture& picture, const Sound& sound) {
  std::vector<Event> events;
  for (const Seen* seen : sounding(picture, sound)) {
    const Blocks both = common(seen->when, find(sound, seen->kind())->when);
    if (both.length() > 0) events.push_back(event_of(seen->kind(), both, Modality::none));
  }
  return events;
}

std::string one_event(const Picture& picture, const Sound& sound) {
  const auto events = seen_and_heard(picture, sound);
  return events.size() == 1 ? text_of(events) : "";
}

std::string events_at_once(const Picture& picture, const Sound& sound) {
  return text_of(seen_and_heard(picture, sound));
}

// A thing that stands there all the time is no event.
std::string events_of_each_sense(const Picture& picture, const Sound& sound) {
  std::vector<Event> events;
  // Runs of seconds in which a kind is seen, heard, or both.
  for (std::size_t k = 0; k < kKindCount; ++k) {
    const auto kind = static_cast<Kind>(k);
    const Seen* seen = find(picture, kind);
    const Heard* heard = find(sound, kind);
    if (seen != nullptr && seen->when == Blocks{} && heard == nullptr) continue;
    const auto modality_at = [&](int block) {
      const bool is_seen = seen != nullptr && seen->when.holds(block);
      const bool is_heard = heard != nullptr && heard->when.holds(block);
      return is_seen && is_heard ? Modality::both
             : is_seen           ? Modality::visual
             : is_heard          ? Modality::audio
                                 : Modality::none;
    };
    for (int from = 0; from < kBlocks;) {
      int to = from + 1;
      while (to < kBlocks && modality_at(to) == modality_at(from)) ++to;
      if (modality_at(from) != Modality::none)
        events.push_back(event_of(kind, {from, to}, modality_at(from)));
      from = to;
    }
  }
  return text_of(events);
}

// At least `shortest` blocks, and not all of them.
Blocks interval(int shortest, Rng& rng) {
  for (;;) {
    const int from = rng.range(0, kBlocks - shortest);
    const Blocks when{from, rng.range(from + shortest, kBlocks)};
    if (when != Blocks{}) return when;
  }
}

// Two intervals that begin or end together: at most two runs for avvp's answer.
std::pair<Blocks, Blocks> meeting(Rng& rng) {
  const Blocks longer = interval(kShortest + 2, rng);
  Blocks shorter = longer;
  const int cut = rng.range(0, longer.length() - kShortest);
  if (rng.chance(0.5))
    shorter.from += cut;
  else
    shorter.to -= cut;
  return rng.chance(0.5) ? std::pair(longer, shorter) : std::pair(shorter, longer);
}

// Things and sounds of both senses, and of one only. One more thing is there all the time, silent.
struct Counts {
  int events = 1, seen = 1, heard = 1;
};

Counts counts_of(std::string_view id, const Level& level, Rng& rng) {
  const int extra = level.hidden;
  if (id == "ave") return {.seen = rng.range(1, 1 + extra), .heard = rng.range(1, extra)};
  if (id == "unav") return {.events = rng.range(1, 1 + extra), .seen = 1, .heard = 1};
  return {.events = 1, .seen = rng.range(0, 1), .heard = rng.range(0, extra)};
}

}  // namespace

Result<Play> play_time(const SynthRequest& request, Rng& rng) {
  const std::string_view id = request.table().id;
  const Level& level = level_of(request.difficulty);
  const AnswerOf answer = id == "ave"    ? one_event
                          : id == "unav" ? events_at_once
                                         : events_of_each_sense;
  for (int draw = 0; draw < kMostDraws; ++draw) {
    const Counts counts = counts_of(id, level, rng);
    const int things = counts.events + counts.seen + 1;
    std::vector<Kind> kinds = shuffled_kinds(rng);
    // The first kind is the one whose turn it is, and is an event.
    std::swap(kinds[0], *std::ranges::find(kinds, static_cast<Kind>(request.turn(kKindCount))));
    const std::span<const Kind> all(kinds);
    Play play{.picture = draw_row(level, all.first(static_cast<std::size_t>(things)), rng),
              .answer = answer};
    play.sound = draw_sound(
        level, play.picture, 0,
        all.subspan(static_cast<std::size_t>(things), static_cast<std::size_t>(counts.heard)), rng);
    for (Heard& heard : play.sound) heard.when = interval(kShortest, rng);
    for (int i = 0; i < counts.events; ++i) {
      const auto [seen, heard] = meeting(rng);
      play.picture[static_cast<std::size_t>(i)].when = seen;
      play.sound.push_back({.kind = kinds[static_cast<std::size_t>(i)],
                            .gain = rng.between(0.4, 0.8),
                            .when = heard});
    }
    for (int i = 0; i < counts.seen; ++i)
      play.picture[static_cast<std::size_t>(counts.events + i)].when = interval(kShortest, rng);
    // Places in the row do not tell who is who.
    std::vector<Seen> shuffled = play.picture;
    rng.shuffle(shuffled);
    for (std::size_t i = 0; i < shuffled.size(); ++i) {
      play.picture[i].thing.kind = shuffled[i].thing.kind;
      play.picture[i].when = shuffled[i].when;
    }
    play.senses = senses_needed(play.answer, play.picture, play.sound);
    if (play.senses != kBothSenses) continue;
    const std::string text = play.answer(play.picture, play.sound);
    const std::vector<Event> events = parse_events(text);
    const std::string clip = request.clip();
    play.fields = {{"vid", clip},
                   {"filename", clip + "_0_10"},
                   {"event", id == "avvp" ? text : events.front().name},
                   {"start_time", static_cast<int>(events.front().start)},
                   {"end_time", static_cast<int>(events.front().end)},
                   {"label_content", make_target(observed(play.picture, play.sound), text)}};
    return play;
  }
  return no_scene_fits(request);
}

}  // namespace crabcast::data
