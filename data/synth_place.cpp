// arig, s4, ms3, ref_avs: which of the things in a picture sounds, or is meant, and where it is.

#include <algorithm>
#include <array>

#include "data/synth_picture.h"

namespace crabcast::data {
namespace {

constexpr double kLoud = 1.0, kSoft = 0.25;

Canvas still_life(const std::vector<Thing>& things, Rng& rng) {
  Canvas canvas = background(kStillSide, kStillSide, rng);
  for (const Thing& thing : things) canvas.draw(thing.sprite());
  return canvas;
}

// ms3: the sounding thing changes at whole seconds; each second has one.
std::vector<std::size_t> change_sounds(std::size_t things, std::size_t first, int seconds, int at,
                                       Rng& rng) {
  std::vector<std::size_t> sounding(static_cast<std::size_t>(seconds));
  for (int s = 0; s < seconds; ++s)
    sounding[static_cast<std::size_t>(s)] =
        s == at ? first : static_cast<std::size_t>(rng.range(0, static_cast<int>(things) - 1));
  // The seconds next to the one that is asked for are another thing's.
  for (const int s : {at - 1, at + 1})
    if (s >= 0 && s < seconds) sounding[static_cast<std::size_t>(s)] = (first + 1) % things;
  return sounding;
}

}  // namespace

Result<Scene> render_place(const SynthRequest& request, Rng& rng) {
  const std::string_view id = request.table().id;
  const int seconds = request.table().audio_parts;
  std::vector<Thing> things = things_in_corners(rng.range(2, id == "arig" ? 4 : 3), rng);
  set_kind(things, 0, static_cast<Kind>(request.turn(kKindCount)));
  const Thing& target = things.front();
  const bool first_frame = id == "s4" && request.train_row();
  const int frame = first_frame ? 0 : rng.range(0, seconds - 1);

  const StillPaths paths = still_paths(request, frame);
  Scene scene;
  auto found = find_thing(target);
  if (!found) return fail(std::move(found).error());
  CRABCAST_TRY(add_still(scene, paths.picture, still_life(things, rng)));
  CRABCAST_TRY(add_mask(scene, paths.mask, found->mask));

  std::vector<std::size_t> sounding(static_cast<std::size_t>(seconds), 0);
  if (id == "ms3") sounding = change_sounds(things.size(), 0, seconds, frame, rng);
  Waveform wave(seconds, rng);
  for (std::size_t i = 0; i < things.size(); ++i) {
    const std::vector<float> loop = timbre(things[i].kind, rng);
    for (std::size_t s = 0; s < sounding.size();) {
      std::size_t end = s + 1;
      while (end < sounding.size() && sounding[end] == sounding[s]) ++end;
      if (sounding[s] == i) wave.add_loop(loop, 0.8, double(s), double(end));
      s = end;
    }
  }
  CRABCAST_TRY(add_audio(scene, paths.sound, wave));

  const std::string reasoning = "I hear a " + target.name();
  const Box& box = found->box;
  const std::string answer = id == "arig" ? target.name() + " " + format_box(box) : found->answer;
  scene.fields = {{"image_path", paths.picture},
                  {"visual_path", paths.picture},
                  {"audio_path", paths.sound},
                  {"vid", paths.clip},
                  {"uid", paths.uid},
                  {"a_obj", target.name()},
                  {"frame_idx", frame},
                  {"top_left", {int(box.x1), int(box.y1)}},
                  {"bottom_right", {int(box.x2), int(box.y2)}},
                  {"label_content", make_target(reasoning, answer)}};
  return scene;
}

namespace {

// ref_avs: the first thing is loud, the second soft, the third silent. A description's kind says
// which it means.
constexpr int kDescriptions = 5;
constexpr std::size_t kLoudThing = 0, kSoftThing = 1, kSilentThing = 2;

std::size_t target_of(int description, Rng& rng) {
  switch (description) {
    case 1:
      return kLoudThing;
    case 2:
      return kSoftThing;
    case 3:
      return kSilentThing;
    default:
      return rng.chance(0.5) ? kLoudThing : kSoftThing;
  }
}

struct Reference {
  std::string description, reasoning;
};

Reference describe(int description, const Thing& target) {
  const std::string name = target.name(), colour(target.colour.name);
  switch (description) {
    case 0:
      return {"the " + colour + " one that sounds", colour + " " + name + " sounds"};
    case 1:
      return {"the loudest one", name + " is loudest"};
    case 2:
      return {"the softer one that sounds", name + " is softer"};
    case 3:
      return {"the silent one", name + " is silent"};
    default:
      return {"the " + name + " that sounds", "I hear a " + name};
  }
}

// Something that is not there: what is silent is asked for as if it sounded, by colour or by kind.
Reference describe_absent(const Thing& silent, Rng& rng) {
  const std::string colour_text = std::string(silent.colour.name) + " one";
  return {"the " + (rng.chance(0.5) ? colour_text : silent.name()) + " that sounds",
          "no such thing"};
}

// Three things; with `unseen`, the described one is of a kind kept from training.
std::vector<Thing> make_things(bool unseen, std::size_t target, Rng& rng) {
  std::vector<Thing> things = things_in_corners(3, rng);
  std::vector<Kind> seen, kept;
  for (const Kind kind : shuffled_kinds(rng)) (is_unseen(kind) ? kept : seen).push_back(kind);
  for (std::size_t i = 0; i < things.size(); ++i)
    things[i].kind = unseen && i == target ? kept[0] : seen[i];
  recolour(things, rng);
  return things;
}

}  // namespace

Result<Scene> render_reference(const SynthRequest& request, Rng& rng) {
  constexpr std::array<std::string_view, 3> kSplits = {"test_s", "test_u", "test_n"};
  const int seconds = request.table().audio_parts;
  const std::string_view split =
      request.split == Split::test ? kSplits[static_cast<std::size_t>(request.turn(3))] : "train";
  const int turn = request.turn(kDescriptions + 1);
  const bool absent = split == "train" ? turn == kDescriptions : split == "test_n";
  const int wanted = split == "train" ? turn : rng.range(0, kDescriptions - 1);

  const std::size_t target = absent ? kSilentThing : target_of(wanted, rng);
  const std::vector<Thing> things = make_things(split == "test_u", target, rng);
  const Reference reference =
      absent ? describe_absent(things[target], rng) : describe(wanted, things[target]);

  const int frame = rng.range(0, seconds - 1);
  const StillPaths paths = still_paths(request, frame, target);
  Scene scene;
  auto found = find_thing(things[target]);
  if (!found) return fail(std::move(found).error());
  CRABCAST_TRY(add_still(scene, paths.picture, still_life(things, rng)));
  if (!absent) CRABCAST_TRY(add_mask(scene, paths.mask, found->mask));
  Waveform wave(seconds, rng);
  wave.add_loop(timbre(things[kLoudThing].kind, rng), kLoud, 0, seconds);
  wave.add_loop(timbre(things[kSoftThing].kind, rng), kSoft, 0, seconds);
  CRABCAST_TRY(add_audio(scene, paths.sound, wave));

  scene.fields = {{"image_path", paths.picture},
                  {"visual_path", paths.picture},
                  {"audio_path", paths.sound},
                  {"vid", paths.clip},
                  {"fid", target},
                  {"uid", paths.uid},
                  {"idx", frame},
                  {"frame_idx", frame},
                  {"description", reference.description},
                  {"object", reference.description},
                  {"split", split},
                  {"output", make_target(reference.reasoning, absent ? "none" : found->answer)}};
  return scene;
}

}  // namespace crabcast::data
