// One sample of the synthetic corpus: its JSON row and its media files, both in memory.
//
// A sample is a pure function of the request; samples can be rendered in any order and on any
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus.h"
#include "data/datasets.h"
#include "data/media_encode.h"
#include "data/scene.h"
#include "data/scene_sound.h"
#include "data/senses.h"
#include "data/synth.h"
#include "data/synth_random.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::data {

struct SynthRequest {
  DatasetRow dataset = 0;
  Split split = Split::train;  // which random stream; unav, mer24 and avcap put both in train.json
  std::uint64_t index = 0;
  std::uint64_t seed = 1;
  Difficulty difficulty = Difficulty::easy;
  bool media = true;  // false: the row only. Easy scenes are rendered all the same

  [[nodiscard]] const Dataset& table() const { return datasets()[dataset]; }
  [[nodiscard]] bool train_row() const { return split == Split::train || !table().has_test; }
  // "train_000017"
  [[nodiscard]] std::string clip() const;
  // One of 0..count-1, in turn from row to row, so that even a small corpus holds every class.
  [[nodiscard]] int turn(int count) const;
  // What is described, filmed and mixed in a scene that is not easy: each by random numbers of its
  // own, so that a picture does not depend on its sound.
  enum class Part { play, picture, sound };
  [[nodiscard]] Rng stream(Part part) const;
};

// Those of a corpus: set by set, train before test.
std::vector<SynthRequest> synthetic_requests(const SynthOptions& options);

struct MediaFile {
  std::string path;  // relative to the data set's folder
  Bytes bytes;
};

struct SynthSample {
  nlohmann::ordered_json row = {};  // exactly the fields of the table, in its order
  std::vector<MediaFile> files = {};
  std::string answer = {};            // FINAL, also of a test row
  std::string type = {};              // of a question: "Audio Counting", "Where"; of ref_avs: split
  std::optional<Senses> senses = {};  // that the answer needs; easy scenes do not say
};

Result<SynthSample> render_sample(const SynthRequest& request);

// The parts below are shared by the renderers of the tasks (synth_action.cpp and so on). Each
// gives the values of all fields, those of train and of test rows; render_sample picks.
struct Scene {
  nlohmann::json fields = {};
  std::vector<MediaFile> files = {};
  std::optional<Senses> senses = {};
};
Result<Scene> render_action(const SynthRequest& request, Rng& rng);
Result<Scene> render_emotion(const SynthRequest& request, Rng& rng);
Result<Scene> render_question(const SynthRequest& request, Rng& rng);
Result<Scene> render_time(const SynthRequest& request, Rng& rng);
Result<Scene> render_place(const SynthRequest& request, Rng& rng);      // arig, s4, ms3
Result<Scene> render_reference(const SynthRequest& request, Rng& rng);  // ref_avs
Result<Scene> render_caption(const SynthRequest& request, Rng& rng);
Result<Scene> render_matching(const SynthRequest& request, Rng& rng);
// Those of corpora that are not easy (stage.h, cues.h).
Result<Scene> render_play(const SynthRequest& request);
Result<Scene> render_action_cues(const SynthRequest& request);
Result<Scene> render_emotion_cues(const SynthRequest& request);
Result<Scene> render_matching_play(const SynthRequest& request);

// A thing in a scene.
struct Thing {
  Kind kind = {};
  Colour colour = {};
  double x = 0.5, y = 0.5, radius = 0.12;
  [[nodiscard]] Sprite sprite() const;
  // Moved a little, as if it hung in the wind; never says who sounds.
  [[nodiscard]] Sprite swaying(double time) const;
  [[nodiscard]] std::string name() const { return std::string(info(kind).name); }
};

// `count` things of different kinds and of their own colours, side by side from left to right.
std::vector<Thing> things_in_a_row(int count, Rng& rng);
// The same in the corners of a picture, in random order; two to four things, apart from each other.
std::vector<Thing> things_in_corners(int count, Rng& rng);
// Every kind once, in random order.
std::vector<Kind> shuffled_kinds(Rng& rng);
// Makes things[at] a thing of `kind`; one that was of this kind takes its place.
void set_kind(std::vector<Thing>& things, std::size_t at, Kind kind);
// Different colours for all of them.
void recolour(std::vector<Thing>& things, Rng& rng);

// A dull background of its own for each scene.
Canvas background(int width, int height, Rng& rng);

// Paints frame after frame on a fresh copy of the background; adds `path` to the scene.
Status add_video(Scene& scene, const std::string& path, const VideoFormat& format, double seconds,
                 const Canvas& background, const std::function<void(Canvas&, double time)>& paint);
// "wav" or "mp3", by the path's ending.
Status add_audio(Scene& scene, const std::string& path, Waveform& sound);

// "zero", "one", .. "six"
std::string_view number_word(int number);

}  // namespace crabcast::data
