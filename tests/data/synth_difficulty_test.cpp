// Difficulties of the synthetic corpus: easy stays what it was, the others are whole corpora of the
// same form, and their figures keep what docs/corpus.md says.

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <sstream>

#include "data/answers.h"
#include "data/decode.h"
#include "data/synth_sample.h"
#include "data/synth_stats.h"
#include "tests/data/synth_fixture.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

// The shipped base and the tuned quickstart depend on the easy scenes: they never change. Media
// whose bytes depend on FFmpeg's encoders stay out.
TEST(SynthDifficulty, EasyIsWhatItAlwaysWas) {
  std::string rows, sounds, masks;
  for (const auto& [path, bytes] : all_files(rendered_corpus())) {
    if (path.ends_with("train.json") || path.ends_with("test.json")) rows += path + bytes;
    if (path.ends_with(".wav")) sounds += path + bytes;
    if (!path.ends_with(".png")) continue;
    const auto mask = decode_mask(rendered_corpus() / path);
    ASSERT_TRUE(mask.has_value());
    masks.append(static_cast<const char*>(mask->data_ptr()),
                 static_cast<std::size_t>(mask->numel()));
  }
  EXPECT_EQ(XXH3_64bits(rows.data(), rows.size()), 9559410668656578993ULL);
  EXPECT_EQ(XXH3_64bits(sounds.data(), sounds.size()), 8843796588242656582ULL);
  EXPECT_EQ(XXH3_64bits(masks.data(), masks.size()), 6452750482265434177ULL);
  EXPECT_EQ(contents(rendered_corpus() / "crabcast-synth.json"),
            "{\n \"format\": 1,\n \"seed\": 11,\n \"samples_per_dataset\": 8\n}\n");
  EXPECT_FALSE(fs::exists(rendered_corpus() / "crabcast-senses.jsonl"));
}

TEST(SynthDifficulty, NamesAndFoldersTellDifficultiesApart) {
  EXPECT_EQ(synthetic_name(SyntheticCorpus{.seed = 7, .samples_per_dataset = 64}), "synth-v1-7-64");
  EXPECT_EQ(synthetic_name(SyntheticCorpus{
                .seed = 7, .samples_per_dataset = 64, .difficulty = Difficulty::hard}),
            "synth-v1-hard-7-64");
  SyntheticCorpus harder = kTestCorpus;
  harder.difficulty = Difficulty::normal;
  EXPECT_EQ(synthesize(harder, rendered_corpus(), 1, {}).error().code, Errc::already_exists);
}

constexpr SyntheticCorpus kHardCorpus{
    .seed = 5, .samples_per_dataset = 3, .difficulty = Difficulty::hard};

const fs::path& hard_corpus() {
  static const testing::TemporaryFolder scratch;
  static const fs::path folder = [] {
    const auto made = ensure_synthetic(kHardCorpus, scratch.path(), 2, {});
    if (!made) ADD_FAILURE() << made.error().message;
    return made.value_or(scratch.path() / "failed");
  }();
  return folder;
}

TEST(SynthDifficulty, HardRowsHoldThePublishedFieldsAndTheReaderTakesThem) {
  for (const Dataset& set : usual_datasets()) {
    const auto rows =
        nlohmann::ordered_json::parse(contents(hard_corpus() / set.id / "train.json"));
    std::string names;
    for (const auto& [name, value] : rows.at(0).items()) names += (names.empty() ? "" : " ") + name;
    EXPECT_EQ(names, set.train_fields) << set.id;
  }
  const testing::TemporaryFolder indexes;
  const auto corpus = Corpus::open(hard_corpus(), every_task(), indexes.path());
  ASSERT_TRUE(corpus.has_value()) << corpus.error().message;
  for (const DatasetSummary& set : (*corpus)->summary())
    for (std::uint64_t i = 0; i < set.train; ++i) {
      const auto sample = (*corpus)->sample(set.dataset, Split::train, i);
      ASSERT_TRUE(sample.has_value()) << sample.error().message;
      SCOPED_TRACE(std::string(datasets()[set.dataset].id) + " " + std::to_string(i));
      for (const fs::path& path : {sample->video, sample->image, sample->audio})
        EXPECT_TRUE(path.empty() || fs::exists(path)) << path;
      const auto sound =
          decode_audio(sample->audio, {.window = AudioWindow::first_seconds, .parts = 4});
      ASSERT_TRUE(sound.has_value()) << sound.error().message;
      if (sample->video.empty()) continue;
      const auto frames = decode_video(sample->video, 4);
      ASSERT_TRUE(frames.has_value()) << frames.error().message;
      EXPECT_EQ(frames->size(), 4U);
    }
}

// The thing of a mask is told from what is around it, whatever the camera did.
TEST(SynthDifficulty, MasksFitTheirPictures) {
  int checked = 0;
  for (const char* id : {"arig", "s4", "ms3", "ref_avs"}) {
    const auto rows = nlohmann::ordered_json::parse(contents(hard_corpus() / id / "train.json"));
    for (const auto& row : rows) {
      const fs::path picture = hard_corpus() / id / row.at("image_path").get<std::string>();
      const std::string number = picture.stem().string();
      const fs::path clip = picture.parent_path().parent_path();
      const fs::path file = row.contains("fid")
                                ? clip / "gt_mask" /
                                      ("fid_" + std::to_string(row.at("fid").get<int>())) /
                                      (std::string(5 - number.size(), '0') + number + ".png")
                                : clip / "labels_semantic" / (number + ".png");
      const Dataset& set = *find_dataset(id);
      const std::string final =
          final_answer(row.at(std::string(set.target_field)).get<std::string>());
      EXPECT_EQ(fs::exists(file), final != "none") << file;
      if (final == "none") continue;
      const auto mask = decode_mask(file), rgb = decode_image(picture);
      ASSERT_TRUE(mask.has_value() && rgb.has_value());
      const auto box = first_box(final);
      ASSERT_TRUE(box.has_value()) << final;
      const auto *on = mask->data_ptr<std::uint8_t>(), *p = rgb->data_ptr<std::uint8_t>();
      double inside = 0, outside = 0;
      int in = 0, out = 0;
      for (int i = 0; i < 224 * 224; ++i) {
        const int strongest = std::max({p[3 * i], p[3 * i + 1], p[3 * i + 2]});
        if (on[i] != 0) {
          EXPECT_TRUE(box->x1 <= i % 224 && i % 224 <= box->x2 && box->y1 <= i / 224 &&
                      i / 224 <= box->y2);
          inside += strongest;
          ++in;
        } else {
          outside += strongest;
          ++out;
        }
      }
      EXPECT_GT(inside / in, outside / out + 15) << picture;
      ++checked;
    }
  }
  EXPECT_GT(checked, 8);
}

TEST(SynthDifficulty, EachSampleSaysWhichSensesItNeeds) {
  std::istringstream lines(contents(hard_corpus() / "crabcast-senses.jsonl"));
  std::size_t count = 0, both = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto said = nlohmann::json::parse(line);
    EXPECT_NE(find_dataset(said.at("dataset").get<std::string>()), nullptr);
    both += said.at("needs") == "both" ? 1 : 0;
  }
  EXPECT_EQ(count, kUsualDatasets * (3 + 4));
  EXPECT_GT(both, count * 3 / 4);
}

// What docs/corpus.md promises of the answers, with room for chance.
TEST(SynthDifficulty, FiguresKeepWhatThePageSays) {
  for (const Difficulty difficulty : {Difficulty::normal, Difficulty::hard}) {
    const auto figures = synthetic_figures(
        SyntheticCorpus{.seed = 1, .samples_per_dataset = 160, .difficulty = difficulty}, 2);
    ASSERT_TRUE(figures.has_value()) << figures.error().message;
    EXPECT_GT(figures->size(), kUsualDatasets + 9 + 8 + 3);
    for (const SynthFigures& f : *figures) {
      SCOPED_TRACE(f.name + ", " + std::string(to_string(difficulty)));
      EXPECT_NEAR(f.both + f.picture + f.sound + f.either, 1, 1e-9);
      EXPECT_EQ(f.either, 0);
      if (f.samples < 200) continue;  // one kind of question, or one split
      EXPECT_LE(f.best_constant_share, 0.22);
      EXPECT_GE(f.entropy, 2.5);
      // The picture alone is not enough where the sound is needed, and the other way round.
      EXPECT_GE(f.both + f.sound, 0.5);
      EXPECT_GE(f.both + f.picture, 0.5);
    }
  }
}

TEST(SynthDifficulty, FiguresOfAnEasyCorpusSayNothingOfSenses) {
  const auto figures = synthetic_figures(SyntheticCorpus{.seed = 1, .samples_per_dataset = 1}, 2);
  ASSERT_TRUE(figures.has_value());
  EXPECT_EQ(figures->front().name, "ks");
  EXPECT_EQ(figures->front().samples, 5U);
  EXPECT_EQ(figures->front().both, 0);
  const std::string table = figures_text(*figures);
  EXPECT_NE(table.find("| ks | 5 | "), std::string::npos) << table;
  EXPECT_NE(table.find(" | - |"), std::string::npos);
  const auto list = nlohmann::json::parse(figures_json(*figures));
  EXPECT_EQ(list.size(), figures->size());
  EXPECT_EQ(list.at(0).at("name"), "ks");
}

}  // namespace
}  // namespace crabcast::data
