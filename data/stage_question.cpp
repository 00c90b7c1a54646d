// avqa, staged: the nine kinds of questions of MUSIC-AVQA. A question is drawn until its answer is
// the one whose turn it is and needs the senses that its kind says.

#include <algorithm>
#include <array>

#include "data/stage.h"

namespace crabcast::data {
namespace {

struct Question {
  std::string text = {};
  AnswerOf answer = {};
};

std::string yes_if(bool yes) {
  return yes ? "yes" : "no";
}

// "left", "middle", "right" of a thing in its row.
std::string side(const Picture& picture, const Seen& seen) {
  if (&seen == &picture.front()) return "left";
  return &seen == &picture.back() ? "right" : "middle";
}

// The thing of a colour; null: there is none.
const Seen* of_colour(const Picture& picture, const std::string& colour) {
  const auto at = std::ranges::find(picture, colour, colour_of);
  return at == picture.end() ? nullptr : &*at;
}

using Pair = std::pair<const Heard*, const Heard*>;

// How loud, or how long, one is beside another; empty where the two are equal or one is silent.
std::string louder(Pair pair) {
  if (pair.first == nullptr || pair.second == nullptr) return "";
  return pair.first->gain == pair.second->gain ? "" : yes_if(pair.first->gain > pair.second->gain);
}
std::string longer(Pair pair) {
  if (pair.first == nullptr || pair.second == nullptr) return "";
  const int more = pair.first->when.length() - pair.second->when.length();
  return more == 0 ? "" : yes_if(more > 0);
}

// ---- The sound alone

Question how_many_sounds(const Picture&, const Sound&, Rng&) {
  return {"How many different sounds are heard?", [](const Picture&, const Sound& sound) {
            return std::string(number_word(static_cast<int>(sound.size())));
          }};
}

Question how_many_at_the_end(const Picture&, const Sound&, Rng&) {
  return {"How many sounds are heard at the end?", [](const Picture&, const Sound& sound) {
            const auto at_end = [](const Heard& heard) { return heard.when.holds(kBlocks - 1); };
            return std::string(number_word(static_cast<int>(std::ranges::count_if(sound, at_end))));
          }};
}

Question compare(const Sound& sound, const std::string& word, std::string (*of)(Pair)) {
  if (sound.size() < 2) return {};
  const Kind a = sound[0].kind, b = sound[1].kind;
  return {(word == "longer" ? "Does the " + name_of(a) + " sound longer than the "
                            : "Is the " + name_of(a) + " louder than the ") +
              name_of(b) + "?",
          [=](const Picture&, const Sound& s) {
            return of({find(s, a), find(s, b)});
          }};
}
Question which_is_louder(const Picture&, const Sound& sound, Rng&) {
  return compare(sound, "louder", louder);
}
Question which_is_longer(const Picture&, const Sound& sound, Rng&) {
  return compare(sound, "longer", longer);
}

// ---- The picture alone

Question how_many_things(const Picture&, const Sound&, Rng&) {
  return {"How many objects are in the video?", [](const Picture& picture, const Sound&) {
            return std::string(number_word(static_cast<int>(picture.size())));
          }};
}

Question how_many_beside(const Picture& picture, const Sound&, Rng& rng) {
  const Kind kind = rng.pick(picture).kind();
  const bool left = rng.chance(0.5);
  return {
      std::string("How many objects are ") + (left ? "left" : "right") + " of the " +
          name_of(kind) + "?",
      [=](const Picture& p, const Sound&) -> std::string {
        const Seen* seen = find(p, kind);
        if (seen == nullptr) return "";
        const auto before = static_cast<int>(seen - p.data());
        return std::string(number_word(left ? before : static_cast<int>(p.size()) - 1 - before));
      }};
}

Question what_is_beside(const Picture& picture, const Sound&, Rng& rng) {
  const Kind kind = rng.pick(picture).kind();
  return {"Which object is right of the " + name_of(kind) + "?",
          [=](const Picture& p, const Sound&) -> std::string {
            const Seen* seen = find(p, kind);
            return seen == nullptr || seen == &p.back() ? "" : name_of((seen + 1)->kind());
          }};
}

Question where_is_it(const Picture& picture, const Sound&, Rng& rng) {
  const Kind kind = rng.pick(picture).kind();
  return {"Where is the " + name_of(kind) + "?", [=](const Picture& p, const Sound&) {
            const Seen* seen = find(p, kind);
            return seen == nullptr ? "" : side(p, *seen);
          }};
}

// ---- Both

Question does_it_sound(const Picture& picture, const Sound&, Rng& rng) {
  const std::string colour = colour_of(rng.pick(picture));
  return {"Does the " + colour + " object make a sound?",
          [=](const Picture& p, const Sound& sound) -> std::string {
            const Seen* seen = of_colour(p, colour);
            return seen == nullptr ? "" : yes_if(find(sound, seen->kind()) != nullptr);
          }};
}

Question is_all_seen(const Picture&, const Sound&, Rng&) {
  return {"Is every sound made by an object that is seen?",
          [](const Picture& picture, const Sound& sound) {
            return yes_if(sounding(picture, sound).size() == sound.size());
          }};
}

Question where_is_the_sound(const Picture&, const Sound&, Rng&) {
  return {"Where is the object that makes a sound?",
          [](const Picture& picture, const Sound& sound) -> std::string {
            const auto found = sounding(picture, sound);
            return found.size() == 1 ? side(picture, *found.front()) : "";
          }};
}

Question where_is_the_loudest(const Picture&, const Sound&, Rng&) {
  return {"Where is the loudest of the objects that are seen?",
          [](const Picture& picture, const Sound& sound) -> std::string {
            const auto found = sounding(picture, sound);
            if (found.size() < 2) return "";
            const auto gain = [&](const Seen* seen) { return find(sound, seen->kind())->gain; };
            return side(picture, **std::ranges::max_element(found, {}, gain));
          }};
}

Question how_many_seen_sound(const Picture&, const Sound&, Rng&) {
  return {"How many of the objects that are seen make a sound?",
          [](const Picture& picture, const Sound& sound) {
            return std::string(number_word(static_cast<int>(sounding(picture, sound).size())));
          }};
}

Question how_many_are_silent(const Picture&, const Sound&, Rng&) {
  return {"How many objects are silent?", [](const Picture& picture, const Sound& sound) {
            return std::string(
                number_word(static_cast<int>(picture.size() - sounding(picture, sound).size())));
          }};
}

Question compare_colours(const Picture& picture, const std::string& before,
                         const std::string& between, std::string (*of)(Pair), Rng& rng) {
  const auto a = static_cast<std::size_t>(rng.range(0, static_cast<int>(picture.size()) - 1));
  const std::size_t b = (a + 1) % picture.size();
  const std::string one = colour_of(picture[a]), two = colour_of(picture[b]);
  return {before + one + between + two + " one?",
          [=](const Picture& p, const Sound& sound) -> std::string {
            const Seen *first = of_colour(p, one), *second = of_colour(p, two);
            if (first == nullptr || second == nullptr) return "";
            return of({find(sound, first->kind()), find(sound, second->kind())});
          }};
}
Question which_colour_is_louder(const Picture& picture, const Sound&, Rng& rng) {
  return compare_colours(picture, "Is the ", " object louder than the ", louder, rng);
}
Question which_colour_is_longer(const Picture& picture, const Sound&, Rng& rng) {
  return compare_colours(picture, "Does the ", " object sound longer than the ", longer, rng);
}

// Of those that are seen, who starts first or ends last.
Question who_is_at_an_end(bool first, bool colour) {
  const std::string what = first ? "sounds first" : "sounds last";
  return {colour ? "What colour is the object that " + what + "?"
                 : "Which of the objects that are seen " + what + "?",
          [=](const Picture& picture, const Sound& sound) -> std::string {
            const auto found = sounding(picture, sound);
            if (found.size() < 2) return "";
            const auto order = [&](const Seen* seen) {
              const Blocks when = find(sound, seen->kind())->when;
              return first ? when.from : -when.to;
            };
            const Seen* best = *std::ranges::min_element(found, {}, order);
            if (std::ranges::count(found, order(best), order) > 1) return "";
            return colour ? colour_of(*best) : name_of(best->kind());
          }};
}
Question which_is_first(const Picture&, const Sound&, Rng& rng) {
  return who_is_at_an_end(rng.chance(0.5), false);
}
Question which_colour_is_first(const Picture&, const Sound&, Rng& rng) {
  return who_is_at_an_end(rng.chance(0.5), true);
}

using Answers = std::vector<std::string_view>;

struct Template {
  std::string_view modality, kind;
  Senses senses;    // that every answer needs
  bool in_time;     // the sounds have intervals of their own
  Answers answers;  // take turns; empty: kinds and colours, which are dealt evenly
  Question (*ask)(const Picture&, const Sound&, Rng&);
};

const std::vector<Template>& templates() {
  constexpr Senses kSound{.sound = true}, kPicture{.picture = true}, kBoth = kBothSenses;
  const Answers yes_no = {"yes", "no"}, sides = {"left", "middle", "right"};
  static const std::vector<Template> kAll = {
      {"Audio", "Counting", kSound, false, {"one", "two", "three"}, how_many_sounds},
      {"Audio", "Comparative", kSound, false, yes_no, which_is_louder},
      {"Visual", "Counting", kPicture, false, {"zero", "one", "two"}, how_many_beside},
      {"Visual", "Location", kPicture, false, {}, what_is_beside},
      {"Audio-Visual", "Existential", kBoth, false, yes_no, does_it_sound},
      {"Audio-Visual", "Location", kBoth, false, sides, where_is_the_sound},
      {"Audio-Visual", "Counting", kBoth, false, {"one", "two", "three"}, how_many_seen_sound},
      {"Audio-Visual", "Comparative", kBoth, false, yes_no, which_colour_is_louder},
      {"Audio-Visual", "Temporal", kBoth, true, {}, which_is_first},
      {"Audio", "Counting", kSound, true, {"zero", "one", "two"}, how_many_at_the_end},
      {"Audio", "Comparative", kSound, true, yes_no, which_is_longer},
      {"Visual", "Counting", kPicture, false, {}, how_many_things},
      {"Visual", "Location", kPicture, false, sides, where_is_it},
      {"Audio-Visual", "Existential", kBoth, false, yes_no, is_all_seen},
      {"Audio-Visual", "Location", kBoth, false, sides, where_is_the_loudest},
      {"Audio-Visual", "Counting", kBoth, false, {"zero", "one", "two"}, how_many_are_silent},
      {"Audio-Visual", "Comparative", kBoth, true, yes_no, which_colour_is_longer},
      {"Audio-Visual", "Temporal", kBoth, true, {}, which_colour_is_first},
  };
  return kAll;
}

}  // namespace

Result<Play> play_question(const SynthRequest& request, Rng& rng) {
  const Level& level = level_of(request.difficulty);
  const Template& form =
      templates()[static_cast<std::size_t>(request.turn(static_cast<int>(templates().size())))];
  const std::string_view wanted = form.answers.empty() ? "" : rng.pick(form.answers);
  for (int draw = 0; draw < kMostDraws; ++draw) {
    const std::vector<Kind> kinds = shuffled_kinds(rng);
    const std::span<const Kind> all(kinds);
    const auto things = static_cast<std::size_t>(rng.range(level.fewest, level.most));
    const auto hidden = static_cast<std::size_t>(rng.range(0, level.hidden));
    Play play{.picture = draw_row(level, all.first(things), rng)};
    play.sound = draw_sound(level, play.picture, rng.range(0, 3), all.subspan(things, hidden), rng);
    if (play.sound.empty()) continue;
    if (form.in_time) spread(play.sound, rng);
    const Question question = form.ask(play.picture, play.sound, rng);
    if (!question.answer) continue;
    const std::string answer = question.answer(play.picture, play.sound);
    if (answer.empty() || (!wanted.empty() && answer != wanted)) continue;
    play.answer = question.answer;
    play.senses = senses_needed(play.answer, play.picture, play.sound);
    if (play.senses != form.senses) continue;
    const std::string clip = request.clip();
    play.fields = {
        {"video_id", clip},
        {"question_id", request.index},
        {"type", "[\"" + std::string(form.modality) + "\", \"" + std::string(form.kind) + "\"]"},
        {"question", question.text},
        {"answer", answer},
        {"label", make_target(observed(play.picture, play.sound), answer)}};
    return play;
  }
  return no_scene_fits(request);
}

}  // namespace crabcast::data
