// avqa and avqa_thu: questions whose answers need the picture, the sound, or both.

#include <algorithm>
#include <array>
#include <utility>

#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

// avqa: a clip of 60 s in ten blocks. Block k is around second 6 k, where the k-th picture and the
// k-th sound window are taken, so a thing sounds in a window wholly or not at all.
constexpr int kBlocks = 10;
constexpr double kLong = 60, kShort = 10;
constexpr double block_start(int block) {
  return block == 0 ? 0 : 6.0 * block - 3;
}
constexpr double block_end(int block) {
  return block + 1 == kBlocks ? kLong : 6.0 * block + 3;
}
constexpr double kLoud = 1.0, kSoft = 0.25;

struct Voice {
  std::size_t thing = 0;
  double gain = 0.8;
  double start = 0, end = 0;
};

struct Question {
  std::vector<Thing> things = {};  // from left to right
  std::vector<Voice> voices = {};
  std::string modality = {}, kind = {};  // of avqa's `type`
  std::string text = {}, answer = {}, reasoning = {};
};

std::string list_names(const Question& q) {
  std::string text;
  for (const Thing& thing : q.things) text += (text.empty() ? "" : ", ") + thing.name();
  return text;
}

// Some of the things, in random order, that sound for the whole clip.
void let_sound(Question& q, int count, Rng& rng) {
  std::vector<std::size_t> order(q.things.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  rng.shuffle(order);
  for (int i = 0; i < count; ++i)
    q.voices.push_back({.thing = order[static_cast<std::size_t>(i)], .end = kLong});
}

const Thing& voiced(const Question& q, std::size_t voice) {
  return q.things[q.voices[voice].thing];
}

using Maker = Question (*)(Rng&);

Question how_many_things(Rng& rng) {
  Question q{.things = things_in_a_row(rng.range(2, 4), rng)};
  let_sound(q, 1, rng);
  q.modality = "Visual", q.kind = "Counting";
  q.text = "How many objects are in the video?";
  q.answer = number_word(static_cast<int>(q.things.size()));
  q.reasoning = list_names(q);
  return q;
}

Question how_many_sounds(Rng& rng) {
  Question q{.things = things_in_a_row(3, rng)};
  const int sounds = rng.range(1, 3);
  let_sound(q, sounds, rng);
  q.modality = "Audio", q.kind = "Counting";
  q.text = "How many different sounds are heard?";
  q.answer = number_word(sounds);
  for (std::size_t v = 0; v < q.voices.size(); ++v)
    q.reasoning += (v == 0 ? "" : ", ") + voiced(q, v).name();
  return q;
}

Question does_it_sound(Rng& rng) {
  Question q{.things = things_in_a_row(rng.range(2, 3), rng)};
  let_sound(q, 1, rng);
  const bool yes = rng.chance(0.5);
  const std::size_t heard = q.voices[0].thing;
  const std::size_t asked = yes ? heard : (heard + 1) % q.things.size();
  q.modality = "Audio-Visual", q.kind = "Existential";
  q.text = "Does the " + q.things[asked].name() + " in the video make a sound?";
  q.answer = yes ? "yes" : "no";
  q.reasoning = q.things[heard].name() + " is heard";
  return q;
}

Question where_is_the_sound(Rng& rng) {
  Question q{.things = things_in_a_row(rng.range(2, 3), rng)};
  let_sound(q, 1, rng);
  const std::size_t at = q.voices[0].thing;
  q.modality = "Audio-Visual", q.kind = "Location";
  q.text = "Where is the object that makes the sound?";
  q.answer = at == 0 ? "left" : at + 1 == q.things.size() ? "right" : "middle";
  q.reasoning = voiced(q, 0).name() + " is heard";
  return q;
}

Question which_is_louder(Rng& rng) {
  Question q{.things = things_in_a_row(rng.range(2, 3), rng)};
  let_sound(q, 2, rng);
  const bool yes = rng.chance(0.5);
  q.voices[0].gain = yes ? kLoud : kSoft;
  q.voices[1].gain = yes ? kSoft : kLoud;
  q.modality = "Audio", q.kind = "Comparative";
  q.text = "Is the " + voiced(q, 0).name() + " louder than the " + voiced(q, 1).name() + "?";
  q.answer = yes ? "yes" : "no";
  q.reasoning = voiced(q, yes ? 0 : 1).name() + " is louder";
  return q;
}

Question which_is_first(Rng& rng) {
  Question q{.things = things_in_a_row(rng.range(2, 3), rng)};
  let_sound(q, 2, rng);
  q.voices[0].end = block_end(rng.range(5, kBlocks - 1));
  q.voices[1].start = block_start(rng.range(2, 5));
  q.modality = "Audio-Visual", q.kind = "Temporal";
  q.text = "Which object sounds first?";
  q.answer = voiced(q, 0).name();
  q.reasoning = voiced(q, 0).name() + ", then " + voiced(q, 1).name();
  return q;
}

Question what_is_on_a_side(Rng& rng) {
  Question q{.things = things_in_a_row(rng.range(2, 4), rng)};
  let_sound(q, 1, rng);
  const bool left = rng.chance(0.5);
  q.modality = "Visual", q.kind = "Location";
  q.text = std::string("Which object is on the ") + (left ? "left" : "right") + "?";
  q.answer = (left ? q.things.front() : q.things.back()).name();
  q.reasoning = list_names(q);
  return q;
}

constexpr std::array<Maker, 7> kAvqa = {how_many_things,    how_many_sounds, does_it_sound,
                                        where_is_the_sound, which_is_louder, which_is_first,
                                        what_is_on_a_side};

Status render_clip(Scene& scene, const Question& q, const std::string& clip, double seconds,
                   int frames_per_second, Rng& rng) {
  VideoFormat format;
  format.width = format.height = 112;
  format.frames_per_second = frames_per_second;
  const Canvas behind = background(format.width, format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + clip + ".mp4", format, seconds, behind,
                         [&](Canvas& canvas, double t) {
                           for (const Thing& thing : q.things) canvas.draw(thing.swaying(t));
                         }));
  Waveform wave(seconds, rng);
  for (const Voice& voice : q.voices)
    wave.add_loop(timbre(q.things[voice.thing].kind, rng), voice.gain, voice.start,
                  std::min(voice.end, seconds));
  return add_audio(scene, "audio/" + clip + ".mp3", wave);
}

Result<Scene> render_avqa(const SynthRequest& request, Rng& rng) {
  const int turn = request.turn(static_cast<int>(kAvqa.size()));
  const Question q = kAvqa[static_cast<std::size_t>(turn)](rng);
  const std::string clip = request.clip();
  Scene scene;
  CRABCAST_TRY(render_clip(scene, q, clip, kLong, 2, rng));
  scene.fields = {{"video_path", clip + ".mp4"},
                  {"audio_path", clip + ".mp3"},
                  {"video_id", clip},
                  {"question_id", request.index},
                  {"type", "[\"" + q.modality + "\", \"" + q.kind + "\"]"},
                  {"question", q.text},
                  {"answer", q.answer},
                  {"label", make_target(q.reasoning, q.answer)}};
  return scene;
}

// avqa_thu: four options, one right.
struct Choice {
  Question q = {};
  std::string relation = {}, type = {};
  std::vector<std::string> options = {};  // the right one first
};

// Other kinds than the right one; those in the picture come first, as they are the harder options.
std::vector<std::string> kind_options(const Question& q, const std::string& right, Rng& rng) {
  std::vector<std::string> options = {right};
  const auto add = [&](const std::string& name) {
    if (options.size() < 4 && std::ranges::count(options, name) == 0) options.push_back(name);
  };
  for (const Thing& thing : q.things) add(thing.name());
  for (const Kind kind : shuffled_kinds(rng)) add(std::string(info(kind).name));
  return options;
}

Choice choose_what_sounds(Rng& rng) {
  Choice c{
      .q = {.things = things_in_a_row(rng.range(2, 3), rng)}, .relation = "Sound", .type = "Which"};
  let_sound(c.q, 1, rng);
  c.q.text = "Which object makes the sound?";
  c.options = kind_options(c.q, voiced(c.q, 0).name(), rng);
  c.q.reasoning = "I hear a " + voiced(c.q, 0).name();
  return c;
}

Choice choose_where(Rng& rng) {
  Choice c{.q = {.things = things_in_corners(4, rng)}, .relation = "Both", .type = "Where"};
  let_sound(c.q, 1, rng);
  c.q.text = "Where is the object that makes the sound?";
  const Thing& thing = voiced(c.q, 0);
  const auto corner = [](bool top, bool left) {
    return std::string(top ? "top " : "bottom ") + (left ? "left" : "right");
  };
  const bool top = thing.y < 0.5, left = thing.x < 0.5;
  c.options = {corner(top, left), corner(top, !left), corner(!top, left), corner(!top, !left)};
  c.q.reasoning = "I hear a " + thing.name();
  return c;
}

Choice choose_colour(Rng& rng) {
  Choice c{
      .q = {.things = things_in_a_row(rng.range(2, 3), rng)}, .relation = "Both", .type = "Which"};
  recolour(c.q.things, rng);
  let_sound(c.q, 1, rng);
  c.q.text = "Which colour has the object that makes the sound?";
  const std::string right(voiced(c.q, 0).colour.name);
  c.options = {right};
  std::vector<std::string> others;
  for (const Thing& thing : c.q.things) others.emplace_back(thing.colour.name);
  for (const Colour& colour : colours()) others.emplace_back(colour.name);
  for (const std::string& other : others)
    if (c.options.size() < 4 && std::ranges::count(c.options, other) == 0)
      c.options.push_back(other);
  c.q.reasoning = "I hear a " + voiced(c.q, 0).name();
  return c;
}

Choice choose_first(Rng& rng) {
  Choice c{.q = {.things = things_in_a_row(rng.range(2, 3), rng)},
           .relation = "Both",
           .type = "Happening"};
  let_sound(c.q, 2, rng);
  const int change = rng.range(3, 7);
  c.q.voices[0].end = change;
  c.q.voices[1].start = change;
  c.q.text = "Which object sounds first?";
  c.options = kind_options(c.q, voiced(c.q, 0).name(), rng);
  c.q.reasoning = voiced(c.q, 0).name() + ", then " + voiced(c.q, 1).name();
  return c;
}

Choice choose_what_is_seen(Rng& rng) {
  Choice c{.q = {.things = things_in_a_row(1, rng)}, .relation = "View", .type = "Which"};
  let_sound(c.q, 1, rng);
  c.q.text = "Which object is seen?";
  c.options = kind_options(c.q, c.q.things[0].name(), rng);
  c.q.reasoning = "I see a " + c.q.things[0].name();
  return c;
}

constexpr std::array<Choice (*)(Rng&), 5> kThu = {choose_what_sounds, choose_where, choose_colour,
                                                  choose_first, choose_what_is_seen};

Result<Scene> render_avqa_thu(const SynthRequest& request, Rng& rng) {
  const int turn = request.turn(static_cast<int>(kThu.size()));
  Choice c = kThu[static_cast<std::size_t>(turn)](rng);
  const std::string right = c.options.front();
  rng.shuffle(c.options);
  const std::string clip = request.clip();
  Scene scene;
  CRABCAST_TRY(render_clip(scene, c.q, clip, kShort, 5, rng));
  scene.fields = {{"video_path", clip + ".mp4"},
                  {"audio_path", clip + ".mp3"},
                  {"id", request.index},
                  {"video_name", clip},
                  {"video_id", request.index},
                  {"question_relation", c.relation},
                  {"question_type", c.type},
                  {"multi_choice", c.options},
                  {"question_text", c.q.text},
                  {"answer", std::ranges::find(c.options, right) - c.options.begin()},
                  {"label", make_target(c.q.reasoning, right)}};
  return scene;
}

}  // namespace

Result<Scene> render_question(const SynthRequest& request, Rng& rng) {
  return request.table().id == "avqa" ? render_avqa(request, rng) : render_avqa_thu(request, rng);
}

}  // namespace crabcast::data
