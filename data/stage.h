// Staged scenes: what is seen and what is heard as two descriptions that know nothing of each
// other, and an answer that is a function of both. The scenes of things in corpora that are not
// easy; motions and faces are in cues.h.
//
// A picture is filmed from its description alone, and a sound is mixed from its own
// (stage_media.h), so the same picture can go with any sound, and the answer function says what
// would be right then. That is how a sample knows which senses its answer needs.
//
// All functions are pure but for the random numbers they draw.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/difficulty.h"
#include "data/senses.h"
#include "data/synth_sample.h"

namespace crabcast::data {

// Time is counted in ten blocks of a clip, so that a thing is there, or sounds, in a sampled
// picture or window wholly or not at all. In stills a block is a second of the sound.
inline constexpr int kBlocks = 10;
struct Blocks {
  int from = 0, to = kBlocks;
  [[nodiscard]] int length() const { return to - from; }
  [[nodiscard]] bool holds(int block) const { return from <= block && block < to; }
  friend bool operator==(const Blocks&, const Blocks&) = default;
};
// Empty (length 0 or less) when they do not meet.
Blocks common(Blocks a, Blocks b);

struct Seen {
  Thing thing = {};
  Blocks when = {};
  // Moves without meaning: shares of the picture's side, radians, turns a second.
  double sway_x = 0, sway_y = 0, tilt = 0, pace = 0, start = 0;
  [[nodiscard]] Kind kind() const { return thing.kind; }
};
struct Heard {
  Kind kind = {};
  double gain = 0;
  Blocks when = {};
};
// Neither holds a kind twice. Things of a row stand from left to right.
using Picture = std::vector<Seen>;
using Sound = std::vector<Heard>;

// Empty where the two do not fit the question.
using AnswerOf = std::function<std::string(const Picture&, const Sound&)>;

// A sample before it is filmed and mixed.
struct Play {
  Picture picture = {};
  Sound sound = {};
  AnswerOf answer = {};
  Senses senses = {};          // what `answer` needs, here
  nlohmann::json fields = {};  // of its row, without the media's names
  int frame = 0;               // stills: which second
  std::size_t object = 0;      // stills: the thing that is meant
  bool absent = false;         // stills: no such thing; no mask is stored
};

Result<Play> play_question(const SynthRequest& request, Rng& rng);   // avqa
Result<Play> play_choice(const SynthRequest& request, Rng& rng);     // avqa_thu
Result<Play> play_time(const SynthRequest& request, Rng& rng);       // ave, unav, avvp
Result<Play> play_place(const SynthRequest& request, Rng& rng);      // arig, s4, ms3
Result<Play> play_reference(const SynthRequest& request, Rng& rng);  // ref_avs
Result<Play> play_caption(const SynthRequest& request, Rng& rng);    // avcap
// The one of a request for a data set of things, by its own random stream.
Result<Play> play_of(const SynthRequest& request);

// Scenes are drawn until one fits its question; this many without one are a fault of the question.
inline constexpr int kMostDraws = 100'000;
tl::unexpected<Error> no_scene_fits(const SynthRequest& request);

// ---- Drawing: kinds and colours are dealt without repetition; sizes, places and sways are free

// In a row, higher and lower in turn, from left to right.
Picture draw_row(const Level& level, std::span<const Kind> kinds, Rng& rng);
// In the cells of a grid, 2 x 2 for up to four things, else 3 x 2; in random order.
Picture draw_cells(const Level& level, std::span<const Kind> kinds, Rng& rng);
// `seen` of the picture's things and all of `hidden`, all the time, no two equally loud.
Sound draw_sound(const Level& level, const Picture& picture, int seen, std::span<const Kind> hidden,
                 Rng& rng);
// Gives each sound an interval of its own, at least three blocks long; no two start together.
void spread(Sound& sound, Rng& rng);

// ---- What might have been instead: each differs in one respect

std::vector<Picture> other_pictures(const Picture& picture);
std::vector<Sound> other_sounds(const Sound& sound);
Senses senses_needed(const AnswerOf& answer, const Picture& picture, const Sound& sound);

// ---- Words about scenes

const Seen* find(const Picture& picture, Kind kind);  // null: not seen
const Heard* find(const Sound& sound, Kind kind);     // null: silent
// Those of a picture that are heard, in the picture's order.
std::vector<const Seen*> sounding(const Picture& picture, const Sound& sound);
std::string name_of(Kind kind);
std::string colour_of(const Seen& seen);
// "a red drum", "an orange bell"
std::string a_coloured(const Seen& seen);
// What stands for a thing of a still in answers of this kind: its kind and its place.
std::string place_key(const Seen& seen);
// "I see drum, bell; I hear bell, siren"
std::string observed(const Picture& picture, const Sound& sound);

}  // namespace crabcast::data
