// Lessons about things that stand there: what they are, where, and which of them are heard.

#include <algorithm>
#include <cmath>

#include "data/answers.h"
#include "data/lesson_paint.h"
#include "data/lesson_scene.h"
#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

constexpr int kSide = 224;  // of a picture; answers are in its pixels

enum class Order { row, corners };

struct Stage {
  std::vector<Thing> things;
  Order order = Order::row;
  std::vector<std::size_t> heard;  // loudest first
};

std::string coloured(const Thing& thing) {
  return std::string(thing.colour.name) + " " + thing.name();
}

Stage make_stage(Rng& rng) {
  Stage stage;
  stage.order = rng.chance(0.35) ? Order::row : Order::corners;
  const int count = rng.range(stage.order == Order::row ? 1 : 2, 4);
  stage.things =
      stage.order == Order::row ? things_in_a_row(count, rng) : things_in_corners(count, rng);
  if (rng.chance(0.5)) recolour(stage.things, rng);
  return stage;
}

void choose_heard(Stage& stage, int count, Rng& rng) {
  std::vector<std::size_t> order(stage.things.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  rng.shuffle(order);
  order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
  stage.heard = order;
}

std::string side(const Stage& stage, std::size_t at) {
  const Thing& thing = stage.things[at];
  if (stage.order == Order::row)
    return at == 0 ? "left" : at + 1 == stage.things.size() ? "right" : "middle";
  return std::string(thing.y < 0.5 ? "top " : "bottom ") + (thing.x < 0.5 ? "left" : "right");
}

struct Place {
  std::string box, points;
};
Place place_of(const Thing& thing) {
  const auto mask = mask_of(thing.sprite(), kSide, kSide);
  const auto box = box_of(mask, kSide);
  if (!box) return {"none", "none"};
  return {format_box(*box), points_text(mask, kSide, *box)};
}

std::string names(const Stage& stage, const std::vector<std::size_t>& which) {
  std::string text;
  for (const std::size_t at : which) text += (text.empty() ? "" : ", ") + stage.things[at].name();
  return text.empty() ? "nothing" : text;
}

// "red drum [12,40,80,99] noise, blue bell [..]"
std::string everything(const Stage& stage, bool places) {
  std::string all;
  for (std::size_t i = 0; i < stage.things.size(); ++i) {
    const Thing& thing = stage.things[i];
    all += (i == 0 ? "" : ", ") + coloured(thing);
    if (places) all += " " + place_of(thing).box;
    if (std::ranges::count(stage.heard, i) > 0) all += " noise";
  }
  return all;
}

void add_seen(LessonScene& scene, const Stage& stage, bool places, Rng& rng) {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < stage.things.size(); ++i) all.push_back(i);
  scene.add("Count what you see?", "seen", std::string(number_word(int(all.size()))));
  if (stage.order == Order::row) {
    scene.add("The row?", "row", names(stage, all));
    scene.add("Far left?", "far left", stage.things.front().name());
    scene.add("Far right?", "far right", stage.things.back().name());
  }
  for (const std::size_t at : all) {
    const Thing& thing = stage.things[at];
    const std::string name = thing.name(), colour(thing.colour.name);
    scene.add("Side of " + name + "?", name + " side", side(stage, at));
    scene.add("Colour of " + name + "?", name + " colour", colour);
    scene.add("What is " + colour + "?", colour, name);
    if (!places) continue;
    const Place place = place_of(thing);
    scene.add("Frame " + name + "?", name + " at", place.box);
    scene.add("Frame " + colour + "?", colour + " at", place.box);
    if (rng.chance(0.5)) scene.add("Dots on " + name + "?", name + " dots", place.points);
  }
  if (stage.heard.empty())
    for (int i = 0; i < 2; ++i) scene.add("All?", "all", everything(stage, places));
  const Kind any = static_cast<Kind>(rng.range(0, static_cast<int>(kKindCount) - 1));
  const bool there = std::ranges::count(stage.things, any, &Thing::kind) > 0;
  const std::string name(info(any).name);
  scene.add("Any " + name + "?", "any " + name, there ? "yes" : "no");
}

void add_heard(LessonScene& scene, const Stage& stage, bool places, Rng& rng) {
  std::vector<std::size_t> silent;
  for (std::size_t i = 0; i < stage.things.size(); ++i)
    if (std::ranges::count(stage.heard, i) == 0) silent.push_back(i);
  const Thing& loud = stage.things[stage.heard.front()];
  const std::string name = loud.name();
  scene.add("Hear?", "hear", names(stage, stage.heard));
  scene.add("Count what you hear?", "sounds", std::string(number_word(int(stage.heard.size()))));
  scene.add("Mute?", "mute", names(stage, silent));
  scene.add("Side of the noise?", "noise side", side(stage, stage.heard.front()));
  scene.add("Colour of the noise?", "noise colour", coloured(loud));
  if (places) {
    const Place place = place_of(loud);
    for (int i = 0; i < 2; ++i) scene.add("Frame the noise?", "noise", name + " " + place.box);
    scene.add("Frame and dots of the noise?", "noise", name + " " + place.box + " " + place.points);
    if (!silent.empty()) {
      const Thing& mute = stage.things[silent.front()];
      scene.add("Frame a mute?", "mute", mute.name() + " " + place_of(mute).box);
    }
    if (stage.heard.size() > 1) {
      const Thing& soft = stage.things[stage.heard.back()];
      scene.add("Frame the faint noise?", "faint", soft.name() + " " + place_of(soft).box);
    }
  }
  if (stage.heard.size() > 1) {
    const Thing& soft = stage.things[stage.heard.back()];
    const bool swap = rng.chance(0.5);
    scene.add(
        "More noise, " + (swap ? soft : loud).name() + " or " + (swap ? loud : soft).name() + "?",
        "more noise", name);
    scene.add("Faint?", "faint", soft.name());
  }
  const std::size_t asked =
      static_cast<std::size_t>(rng.range(0, static_cast<int>(stage.things.size()) - 1));
  const bool sounds = std::ranges::count(stage.heard, asked) > 0;
  const Thing& thing = stage.things[asked];
  scene.add("Noise from " + thing.name() + "?", thing.name() + " noise", sounds ? "yes" : "no");
  scene.add("Noise from " + std::string(thing.colour.name) + "?",
            std::string(thing.colour.name) + " noise", sounds ? "yes" : "no");
  for (int i = 0; i < 3; ++i) scene.add("All?", "all", everything(stage, places));
}

Canvas paint(const Stage& stage, Rng& rng) {
  Canvas canvas = background(kSide, kSide, rng);
  for (const Thing& thing : stage.things) canvas.draw(thing.sprite());
  return canvas;
}

constexpr double kLoudGain = 1.0, kOnlyGain = 0.8, kSoftGain = 0.25;

double gain_of(const Stage& stage, std::size_t rank) {
  return stage.heard.size() == 1 ? kOnlyGain : rank == 0 ? kLoudGain : kSoftGain;
}

}  // namespace

LessonScene look_scene(Rng& rng, int size) {
  const Stage stage = make_stage(rng);
  LessonScene scene;
  scene.frames.push_back(to_frame(paint(stage, rng), size));
  add_seen(scene, stage, true, rng);
  return scene;
}

LessonScene listen_scene(Rng& rng) {
  LessonScene scene;
  const int seconds = rng.range(1, 3);
  Waveform wave(seconds, rng);
  const std::vector<Kind> kinds = shuffled_kinds(rng);
  const int count = rng.chance(0.6) ? 1 : rng.range(2, 3);
  std::string heard;
  for (int i = 0; i < count; ++i) {
    const Kind kind = kinds[static_cast<std::size_t>(i)];
    wave.add_loop(timbre(kind, rng),
                  count == 1   ? kOnlyGain
                  : i == 0     ? kLoudGain
                  : count == 2 ? kSoftGain
                               : 0.5,
                  0, seconds);
    heard += (heard.empty() ? "" : ", ") + std::string(info(kind).name);
  }
  const std::string loudest(info(kinds[0]).name);
  scene.add("Hear?", "hear", count == 3 ? loudest : heard);
  scene.add("Most noise?", "most noise", loudest);
  scene.add("Count what you hear?", "sounds", std::string(number_word(count)));
  const auto asked =
      static_cast<std::size_t>(rng.chance(0.5) ? rng.range(0, count - 1) : rng.range(count, 7));
  const std::string name(info(kinds[asked]).name);
  scene.add("Noise from " + name + "?", name + " noise",
            asked < static_cast<std::size_t>(count) ? "yes" : "no");
  scene.sound.assign(wave.samples().begin(), wave.samples().end());
  return scene;
}

LessonScene match_scene(Rng& rng, int size) {
  Stage stage = make_stage(rng);
  choose_heard(stage, rng.chance(0.6) ? 1 : 2, rng);
  LessonScene scene;
  scene.frames.push_back(to_frame(paint(stage, rng), size));
  const int seconds = rng.range(1, 2);
  Waveform wave(seconds, rng);
  for (std::size_t rank = 0; rank < stage.heard.size(); ++rank)
    wave.add_loop(timbre(stage.things[stage.heard[rank]].kind, rng), gain_of(stage, rank), 0,
                  seconds);
  scene.sound.assign(wave.samples().begin(), wave.samples().end());
  if (rng.chance(0.3)) add_seen(scene, stage, true, rng);
  add_heard(scene, stage, true, rng);
  return scene;
}

LessonScene watch_scene(Rng& rng, int size) {
  Stage stage = make_stage(rng);
  choose_heard(stage, rng.range(1, 3), rng);
  LessonScene scene;
  const int seconds = rng.chance(0.3) ? 20 : rng.chance(0.5) ? 10 : 5;
  scene.video = true;
  scene.frames = film(seconds == 5 ? 2 : 10, size, background(112, 112, rng), 10,
                      [&](Canvas& canvas, double t) {
                        for (const Thing& thing : stage.things) canvas.draw(thing.swaying(t));
                      });
  Waveform wave(seconds, rng);
  const bool in_turn = stage.heard.size() > 1 && rng.chance(0.5);  // one after the other
  const double change = in_turn ? std::round(seconds * rng.between(0.3, 0.7)) : seconds;
  for (std::size_t rank = 0; rank < stage.heard.size(); ++rank) {
    const auto loop = timbre(stage.things[stage.heard[rank]].kind, rng);
    if (in_turn)
      wave.add_loop(loop, kOnlyGain, rank == 0 ? 0 : change, rank == 0 ? change : seconds);
    else
      wave.add_loop(loop, gain_of(stage, rank), 0, seconds);
  }
  scene.sound.assign(wave.samples().begin(), wave.samples().end());
  add_seen(scene, stage, false, rng);
  if (in_turn) {
    if (stage.heard.size() == 2) {
      const std::string first = stage.things[stage.heard[0]].name();
      const std::string then = stage.things[stage.heard[1]].name();
      for (int i = 0; i < 3; ++i) {
        scene.add("Hear in turn?", "in turn", first + ", then " + then);
        scene.add("Noise at the start?", "start", first);
        scene.add("Noise at the end?", "end", then);
      }
    }
    scene.add("Count what you hear?", "sounds", std::string(number_word(int(stage.heard.size()))));
  } else {
    add_heard(scene, stage, false, rng);
  }
  return scene;
}

}  // namespace crabcast::data
