#include "data/synth_sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <utility>

#include "data/synth.h"

namespace crabcast::data {

std::string SynthRequest::clip() const {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%s_%06llu", split == Split::train ? "train" : "test",
                static_cast<unsigned long long>(index));
  return text.data();
}

int SynthRequest::turn(int count) const {
  Rng offset{seed, dataset};
  return static_cast<int>((index + offset.next() % 1024) % static_cast<std::uint64_t>(count));
}

std::vector<SynthRequest> synthetic_requests(const SynthOptions& options) {
  std::vector<SynthRequest> requests;
  for (DatasetRow row = 0; row < datasets().size(); ++row) {
    if (is_optional(datasets()[row].task) && !options.matching) continue;
    for (const Split split : {Split::train, Split::test}) {
      const std::uint64_t count =
          split == Split::train ? options.samples_per_dataset : synthetic_test_rows(options);
      for (std::uint64_t index = 0; index < count; ++index)
        requests.push_back({.dataset = row,
                            .split = split,
                            .index = index,
                            .seed = options.seed,
                            .difficulty = options.difficulty});
    }
  }
  return requests;
}

Rng SynthRequest::stream(Part part) const {
  return Rng{seed,
             dataset,
             static_cast<std::uint64_t>(split),
             index,
             static_cast<std::uint64_t>(difficulty),
             static_cast<std::uint64_t>(part)};
}

namespace {

Result<Scene> render_easy(const SynthRequest& request) {
  const Dataset& table = request.table();
  Rng rng{request.seed, request.dataset, static_cast<std::uint64_t>(request.split), request.index};
  switch (table.task) {
    case Task::action_recognition:
      return render_action(request, rng);
    case Task::emotion_recognition:
      return render_emotion(request, rng);
    case Task::av_question_answering:
      return render_question(request, rng);
    case Task::temporal_localization:
      return render_time(request, rng);
    case Task::spatial_localization:
      return render_place(request, rng);
    case Task::segmentation:
      return table.id == "ref_avs" ? render_reference(request, rng) : render_place(request, rng);
    case Task::captioning:
      return render_caption(request, rng);
    case Task::av_matching:
      return render_matching(request, rng);
  }
  return fail(Errc::internal, "a data set without a task");
}

Result<Scene> render_staged(const SynthRequest& request) {
  switch (request.table().task) {
    case Task::action_recognition:
      return render_action_cues(request);
    case Task::emotion_recognition:
      return render_emotion_cues(request);
    case Task::av_matching:
      return render_matching_play(request);
    default:
      return render_play(request);
  }
}

// What kind of question it is, where a data set has several.
std::string type_of(const nlohmann::json& fields) {
  if (fields.contains("type")) {
    const auto words = nlohmann::json::parse(fields.at("type").get<std::string>());
    return words.at(0).get<std::string>() + " " + words.at(1).get<std::string>();
  }
  for (const char* name : {"question_type", "split"})
    if (fields.contains(name)) return fields.at(name);
  return "";
}

}  // namespace

Result<SynthSample> render_sample(const SynthRequest& request) {
  const Dataset& table = request.table();
  Result<Scene> scene =
      request.difficulty == Difficulty::easy ? render_easy(request) : render_staged(request);
  const std::string where = std::string(table.id) + " " + request.clip();
  if (!scene) return fail(scene.error().within(where));

  SynthSample sample{
      .row = nlohmann::ordered_json::object(),
      .files = std::move(scene->files),
      .answer = final_answer(scene->fields.at(std::string(table.target_field)).get<std::string>()),
      .type = type_of(scene->fields),
      .senses = scene->senses};
  std::string_view names = request.train_row() ? table.train_fields : table.test_fields;
  while (!names.empty()) {
    const std::string name(names.substr(0, names.find(' ')));
    names.remove_prefix(std::min(names.size(), name.size() + 1));
    const auto value = scene->fields.find(name);
    if (value == scene->fields.end())
      return fail(Errc::internal, where + ": no value for the field " + name);
    sample.row[name] = *value;
  }
  return sample;
}

Sprite Thing::sprite() const {
  return {.shape = info(kind).shape, .colour = colour, .x = x, .y = y, .radius = radius};
}

Sprite Thing::swaying(double time) const {
  Sprite sprite = this->sprite();
  sprite.y += 0.02 * std::sin(2 * std::numbers::pi * (0.7 * time + 3 * x));
  return sprite;
}

std::vector<Kind> shuffled_kinds(Rng& rng) {
  std::vector<Kind> kinds(kKindCount);
  for (std::size_t i = 0; i < kinds.size(); ++i) kinds[i] = static_cast<Kind>(i);
  rng.shuffle(kinds);
  return kinds;
}

std::vector<Thing> things_in_a_row(int count, Rng& rng) {
  const std::vector<Kind> kinds = shuffled_kinds(rng);
  std::vector<Thing> things;
  const double slot = 1.0 / count;
  for (int i = 0; i < count; ++i) {
    const Kind kind = kinds[static_cast<std::size_t>(i)];
    const double radius = std::min(0.15, slot * rng.between(0.34, 0.42));
    things.push_back({.kind = kind,
                      .colour = info(kind).colour,
                      .x = slot * (i + 0.5 + rng.between(-0.06, 0.06)),
                      .y = rng.between(0.35, 0.65),
                      .radius = radius});
  }
  return things;
}

std::vector<Thing> things_in_corners(int count, Rng& rng) {
  const std::vector<Kind> kinds = shuffled_kinds(rng);
  std::array<int, 4> corners = {0, 1, 2, 3};
  rng.shuffle(corners);
  std::vector<Thing> things;
  for (int i = 0; i < count; ++i) {
    const Kind kind = kinds[static_cast<std::size_t>(i)];
    const int corner = corners[static_cast<std::size_t>(i)];
    things.push_back({.kind = kind,
                      .colour = info(kind).colour,
                      .x = (corner % 2 == 0 ? 0.27 : 0.73) + rng.between(-0.05, 0.05),
                      .y = (corner / 2 == 0 ? 0.27 : 0.73) + rng.between(-0.05, 0.05),
                      .radius = rng.between(0.11, 0.17)});
  }
  return things;
}

void set_kind(std::vector<Thing>& things, std::size_t at, Kind kind) {
  for (Thing& thing : things) {
    if (thing.kind != kind) continue;
    thing.kind = things[at].kind;
    thing.colour = info(thing.kind).colour;
  }
  things[at].kind = kind;
  things[at].colour = info(kind).colour;
}

void recolour(std::vector<Thing>& things, Rng& rng) {
  std::vector<Colour> left(colours().begin(), colours().end());
  rng.shuffle(left);
  for (std::size_t i = 0; i < things.size(); ++i) things[i].colour = left[i % left.size()];
}

Canvas background(int width, int height, Rng& rng) {
  const auto dull = [&] {
    const int base = rng.range(18, 78);
    const auto channel = [&] { return static_cast<std::uint8_t>(base + rng.range(-12, 12)); };
    return Colour{"", channel(), channel(), channel()};
  };
  const Colour top = dull(), bottom = dull();
  Canvas canvas(width, height);
  canvas.fill(top, bottom);
  return canvas;
}

Status add_video(Scene& scene, const std::string& path, const VideoFormat& format, double seconds,
                 const Canvas& background, const std::function<void(Canvas&, double)>& paint) {
  const int frames = static_cast<int>(std::lround(seconds * format.frames_per_second));
  Canvas canvas = background;
  auto bytes = encode_video(format, frames, [&](int frame) -> const Canvas& {
    canvas = background;
    paint(canvas, static_cast<double>(frame) / format.frames_per_second);
    return canvas;
  });
  if (!bytes) return fail(bytes.error().within(path));
  scene.files.push_back({path, std::move(*bytes)});
  return {};
}

Status add_audio(Scene& scene, const std::string& path, Waveform& sound) {
  auto bytes = encode_audio(path.ends_with(".mp3") ? "mp3" : "wav", sound.samples(), kSoundRate);
  if (!bytes) return fail(bytes.error().within(path));
  scene.files.push_back({path, std::move(*bytes)});
  return {};
}

std::string_view number_word(int number) {
  constexpr std::array<std::string_view, 7> kWords = {"zero", "one",  "two", "three",
                                                      "four", "five", "six"};
  return kWords[static_cast<std::size_t>(std::clamp(number, 0, 6))];
}

}  // namespace crabcast::data
