// avqa_thu, staged: the eight types of questions of AVQA, each with four options. An option that is
// wrong here is right for another sound or another picture.

#include <algorithm>
#include <array>

#include "data/stage.h"

namespace crabcast::data {
namespace {

struct Choice {
  std::string text = {};
  AnswerOf answer = {};
  std::vector<std::string> others = {};  // options, the better ones first; may hold the answer
};

constexpr std::array<std::string_view, kKindCount> kUses = {
    "to keep the beat", "to call people in", "to play a tune",     "to sound a fanfare",
    "to warn people",   "to tell the time",  "to drive a machine", "to sing at dawn"};

std::string use_of(Kind kind) {
  return std::string(kUses[static_cast<std::size_t>(kind)]);
}
std::string verb_of(Kind kind) {
  return std::string(info(kind).verb);
}

// The words of all kinds: those of the scene first.
std::vector<std::string> of_kinds(const Picture& picture, const Sound& sound,
                                  std::string (*word)(Kind), Rng& rng) {
  std::vector<std::string> words;
  for (const Seen& seen : picture) words.push_back(word(seen.kind()));
  for (const Heard& heard : sound) words.push_back(word(heard.kind));
  rng.shuffle(words);
  for (const Kind kind : shuffled_kinds(rng)) words.push_back(word(kind));
  return words;
}
std::vector<std::string> of_colours(const Picture& picture, Rng& rng) {
  std::vector<std::string> words;
  for (const Seen& seen : picture) words.push_back(colour_of(seen));
  rng.shuffle(words);
  for (const Colour& colour : colours()) words.emplace_back(colour.name);
  return words;
}

// The only one of those that are seen which sounds; null: none or several.
const Seen* only_sounding(const Picture& picture, const Sound& sound) {
  const auto found = sounding(picture, sound);
  return found.size() == 1 ? found.front() : nullptr;
}

const Heard* loudest(const Sound& sound) {
  const auto at = std::ranges::max_element(sound, {}, &Heard::gain);
  return at == sound.end() ? nullptr : &*at;
}

Choice which_sounds(const Picture& picture, const Sound& sound, Rng& rng) {
  return {"Which object in the video makes a sound?",
          [](const Picture& p, const Sound& s) {
            const Seen* seen = only_sounding(p, s);
            return seen == nullptr ? "" : name_of(seen->kind());
          },
          of_kinds(picture, sound, name_of, rng)};
}

// Options need not be of the scene: what is neither seen nor heard might be, with another sound.
Choice which_is_hidden(const Picture&, const Sound&, Rng& rng) {
  return {"Which of these is heard but not seen?",
          [](const Picture& p, const Sound& s) -> std::string {
            std::string only;
            for (const Heard& heard : s) {
              if (find(p, heard.kind) != nullptr) continue;
              if (!only.empty()) return "";
              only = name_of(heard.kind);
            }
            return only;
          },
          of_kinds({}, {}, name_of, rng)};
}

Choice come_from(const Picture& picture, const Sound&, Rng& rng) {
  const auto object = [](const std::string& colour) { return "the " + colour + " object"; };
  std::vector<std::string> options = {"outside the picture"};
  for (const std::string& colour : of_colours(picture, rng)) options.push_back(object(colour));
  return {"Where does the loudest sound come from?",
          [object](const Picture& p, const Sound& s) -> std::string {
            const Heard* heard = loudest(s);
            if (heard == nullptr) return "";
            const Seen* seen = find(p, heard->kind);
            return seen == nullptr ? "outside the picture" : object(colour_of(*seen));
          },
          std::move(options)};
}

Choice happening(const Picture& picture, const Sound&, Rng& rng) {
  const auto deed = [](const Seen& seen) { return a_coloured(seen) + " " + verb_of(seen.kind()); };
  // What each does, and what each would do in another's colour.
  std::vector<std::string> options;
  for (const Seen& seen : picture) options.push_back(deed(seen));
  for (std::size_t i = 0; i < picture.size(); ++i) {
    Seen other = picture[i];
    other.thing.colour = picture[(i + 1) % picture.size()].thing.colour;
    options.push_back(deed(other));
  }
  rng.shuffle(options);
  return {"What happens in the video?",
          [deed](const Picture& p, const Sound& s) {
            const Seen* seen = only_sounding(p, s);
            return seen == nullptr ? "" : deed(*seen);
          },
          std::move(options)};
}

Choice where(const Picture&, const Sound&, Rng&) {
  const auto corner = [](const Thing& thing) {
    return std::string(thing.y < 0.5 ? "top " : "bottom ") + (thing.x < 0.5 ? "left" : "right");
  };
  return {"Where is the object that makes a sound?",
          [corner](const Picture& p, const Sound& s) {
            const Seen* seen = only_sounding(p, s);
            return seen == nullptr ? "" : corner(seen->thing);
          },
          {"top left", "top right", "bottom left", "bottom right"}};
}

Choice why(const Picture& picture, const Sound&, Rng& rng) {
  const auto cause = [](const std::string& colour, bool starts) {
    return "the " + colour + " object " + (starts ? "starts" : "stops");
  };
  std::vector<std::string> options;
  for (const std::string& colour : of_colours(picture, rng))
    for (const bool starts : {true, false}) options.push_back(cause(colour, starts));
  return {"Why does the sound change?",
          [cause](const Picture& p, const Sound& s) -> std::string {
            std::string only;
            for (const Heard& heard : s) {
              if (heard.when == Blocks{}) continue;
              const bool starts = heard.when.from > 0, stops = heard.when.to < kBlocks;
              const Seen* seen = find(p, heard.kind);
              if (!only.empty() || starts == stops || seen == nullptr) return "";
              only = cause(colour_of(*seen), starts);
            }
            return only;
          },
          std::move(options)};
}

// Of those that are seen, the next to start after one, or the last to start before it.
Choice before_or_next(const Picture& picture, const Sound& sound, Rng& rng) {
  if (sound.empty()) return {};
  const Kind kind = rng.pick(sound).kind;
  const bool next = rng.chance(0.5);
  return {"What colour is the object that starts to sound " +
              std::string(next ? "next after" : "right before") + " the " + name_of(kind) + "?",
          [=](const Picture& p, const Sound& s) -> std::string {
            const Heard* heard = find(s, kind);
            if (heard == nullptr) return "";
            const Seen* nearest = nullptr;
            int least = kBlocks;
            for (const Seen* seen : sounding(p, s)) {
              const int later = find(s, seen->kind())->when.from - heard->when.from;
              const int distance = next ? later : -later;
              if (distance <= 0 || distance >= least) continue;
              least = distance;
              nearest = seen;
            }
            return nearest == nullptr ? "" : colour_of(*nearest);
          },
          of_colours(picture, rng)};
}

Choice when(const Picture& picture, const Sound&, Rng& rng) {
  const std::string colour = colour_of(rng.pick(picture));
  return {"When does the " + colour + " object sound?",
          [=](const Picture& p, const Sound& s) -> std::string {
            const auto seen = std::ranges::find(p, colour, colour_of);
            const Heard* heard = seen == p.end() ? nullptr : find(s, seen->kind());
            if (heard == nullptr) return "";
            const bool starts = heard->when.from == 0, ends = heard->when.to == kBlocks;
            if (starts && ends) return "all the time";
            return starts ? "at the beginning" : ends ? "at the end" : "in the middle";
          },
          {"all the time", "at the beginning", "in the middle", "at the end"}};
}

Choice used_for(const Picture& picture, const Sound& sound, Rng& rng) {
  return {"What is the silent object used for?",
          [](const Picture& p, const Sound& s) -> std::string {
            std::string only;
            for (const Seen& seen : p) {
              if (find(s, seen.kind()) != nullptr) continue;
              if (!only.empty()) return "";
              only = use_of(seen.kind());
            }
            return only;
          },
          of_kinds(picture, sound, use_of, rng)};
}

Choice which_is_left(const Picture& picture, const Sound& sound, Rng& rng) {
  return {"Which object is on the left?",
          [](const Picture& p, const Sound&) { return name_of(p.front().kind()); },
          of_kinds(picture, sound, name_of, rng)};
}

Choice which_is_loudest(const Picture& picture, const Sound& sound, Rng& rng) {
  return {"Which sound is the loudest?",
          [](const Picture&, const Sound& s) {
            const Heard* heard = loudest(s);
            return heard == nullptr ? "" : name_of(heard->kind);
          },
          of_kinds(picture, sound, name_of, rng)};
}

// What a question is asked of: a row or four corners; sounds all the time, in intervals of their
// own, or in thirds of the clip.
enum class Timing { whole, spread, thirds };
struct Template {
  std::string_view type;
  bool corners;
  Timing timing;
  Choice (*ask)(const Picture&, const Sound&, Rng&);
  Senses senses = kBothSenses;  // that every answer needs
};
constexpr std::array kTemplates = {
    Template{"Which", false, Timing::whole, which_sounds},
    Template{"Come From", false, Timing::whole, come_from},
    Template{"Happening", false, Timing::whole, happening},
    Template{"Where", true, Timing::whole, where},
    Template{"Why", false, Timing::thirds, why},
    Template{"Before Next", false, Timing::spread, before_or_next},
    Template{"When", false, Timing::thirds, when},
    Template{"Used For", false, Timing::whole, used_for},
    Template{"Which", false, Timing::whole, which_is_hidden},
    Template{"Which", false, Timing::whole, which_is_left, {.picture = true}},
    Template{"Which", false, Timing::whole, which_is_loudest, {.sound = true}},
};

void set_times(Sound& sound, Timing timing, Rng& rng) {
  constexpr std::array<Blocks, 4> kThirds = {Blocks{0, kBlocks}, Blocks{0, 4}, Blocks{3, 7},
                                             Blocks{6, kBlocks}};
  if (timing == Timing::spread) spread(sound, rng);
  if (timing == Timing::thirds)
    for (Heard& heard : sound) heard.when = rng.pick(kThirds);
}

// The right one and three others, in random order; fewer when there are not that many.
std::vector<std::string> four_options(const std::string& right,
                                      const std::vector<std::string>& others, Rng& rng) {
  std::vector<std::string> options = {right};
  for (const std::string& other : others)
    if (options.size() < 4 && std::ranges::count(options, other) == 0) options.push_back(other);
  rng.shuffle(options);
  return options;
}

// AVQA's words for what an answer needs.
std::string_view relation(Senses senses) {
  if (senses == kBothSenses) return "Both";
  return senses.picture ? "View" : "Sound";
}

}  // namespace

Result<Play> play_choice(const SynthRequest& request, Rng& rng) {
  const Level& level = level_of(request.difficulty);
  const Template& form =
      kTemplates[static_cast<std::size_t>(request.turn(static_cast<int>(kTemplates.size())))];
  for (int draw = 0; draw < kMostDraws; ++draw) {
    const std::vector<Kind> kinds = shuffled_kinds(rng);
    const std::span<const Kind> all(kinds);
    const int most = form.corners ? 4 : level.most;
    const auto things = static_cast<std::size_t>(rng.range(std::max(2, level.fewest), most));
    const auto hidden = static_cast<std::size_t>(rng.range(0, level.hidden));
    Play play;
    play.picture = form.corners ? draw_cells(level, all.first(things), rng)
                                : draw_row(level, all.first(things), rng);
    play.sound = draw_sound(level, play.picture, rng.range(0, static_cast<int>(things)),
                            all.subspan(things, hidden), rng);
    set_times(play.sound, form.timing, rng);
    const Choice choice = form.ask(play.picture, play.sound, rng);
    if (!choice.answer) continue;
    const std::string right = choice.answer(play.picture, play.sound);
    if (right.empty()) continue;
    const std::vector<std::string> options = four_options(right, choice.others, rng);
    if (options.size() < 4) continue;
    play.answer = [of = choice.answer, options](const Picture& picture, const Sound& sound) {
      std::string answer = of(picture, sound);
      return std::ranges::count(options, answer) > 0 ? answer : std::string();
    };
    play.senses = senses_needed(play.answer, play.picture, play.sound);
    if (play.senses != form.senses) continue;
    play.fields = {{"id", request.index},
                   {"video_name", request.clip()},
                   {"video_id", request.index},
                   {"question_relation", relation(play.senses)},
                   {"question_type", form.type},
                   {"multi_choice", options},
                   {"question_text", choice.text},
                   {"answer", std::ranges::find(options, right) - options.begin()},
                   {"label", make_target(observed(play.picture, play.sound), right)}};
    return play;
  }
  return no_scene_fits(request);
}

}  // namespace crabcast::data
