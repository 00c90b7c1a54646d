// a2v and v2a: two of a medium, of which one matches, and nothing else of the corpus changes.
#include <gtest/gtest.h>

#include <set>

#include "data/batch.h"
#include "data/corpus.h"
#include "data/inspect.h"
#include "data/synth_sample.h"
#include "data/synth_stats.h"
#include "tests/data/synth_fixture.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

constexpr Difficulty kAll[] = {Difficulty::easy, Difficulty::normal, Difficulty::hard};
constexpr auto kDeadline = std::chrono::seconds(20);

SynthRequest request_of(std::string_view id, std::uint64_t index, Difficulty difficulty) {
  return {.dataset = static_cast<DatasetRow>(find_dataset(id) - datasets().data()),
          .index = index,
          .seed = 3,
          .difficulty = difficulty,
          .media = false};
}

std::set<std::string> words(const std::string& list) {
  std::set<std::string> out;
  for (std::size_t at = 0; at < list.size();) {
    const auto end = std::min(list.find(", ", at), list.size());
    out.insert(list.substr(at, end - at));
    at = end + 2;
  }
  return out;
}

bool holds(const std::set<std::string>& all, const std::set<std::string>& some) {
  return std::ranges::includes(all, some);
}

TEST(SynthMatching, ExactlyOneOfTheTwoMatches) {
  for (const auto difficulty : kAll)
    for (const std::string id : {"a2v", "v2a"})
      for (std::uint64_t index = 0; index < 60; ++index) {
        SCOPED_TRACE(id + " " + std::to_string(index) + " " + std::string(to_string(difficulty)));
        const auto sample = render_sample(request_of(id, index, difficulty));
        ASSERT_TRUE(sample.has_value()) << sample.error().message;
        const auto& row = sample->row;
        const auto event = [&](const std::string& name) {
          return words(row.at(name + "_event").get<std::string>());
        };
        const bool two_videos = id == "a2v";
        const std::string correct = row.at(two_videos ? "correct_video" : "correct_audio");
        EXPECT_EQ(final_answer(row.at("label").get<std::string>()), correct);
        for (const std::string number : {"1", "2"}) {
          const auto seen = event(two_videos ? "video" + number : "video");
          const auto heard = event(two_videos ? "audio" : "audio" + number);
          const bool right = correct == (two_videos ? "video" : "audio") + number;
          EXPECT_EQ(holds(seen, heard), right) << number;
        }
        if (difficulty != Difficulty::easy) EXPECT_EQ(sample->senses, kBothSenses);
      }
}

TEST(SynthMatching, NeitherAnswerIsMuchMoreOftenRight) {
  for (const auto difficulty : kAll) {
    const auto figures = synthetic_figures(
        {SyntheticCorpus{.seed = 7, .samples_per_dataset = 60, .difficulty = difficulty}, true}, 2);
    ASSERT_TRUE(figures.has_value()) << figures.error().message;
    int found = 0;
    for (const auto& one : *figures) {
      if (one.name != "a2v" && one.name != "v2a") continue;
      ++found;
      EXPECT_EQ(one.answers, 2U);
      EXPECT_LT(one.best_constant_share, 0.65) << one.name;
      if (difficulty != Difficulty::easy) {
        EXPECT_NEAR(one.both, 1, 1e-9);
      }
    }
    EXPECT_EQ(found, 2);
  }
}

// Rendered, read, inspected, decoded.
class MatchingCorpus : public ::testing::TestWithParam<Difficulty> {};

TEST_P(MatchingCorpus, IsReadAsItWasRendered) {
  const testing::TemporaryFolder scratch;
  const SyntheticCorpus options{.seed = 4, .samples_per_dataset = 1, .difficulty = GetParam()};
  const auto folder = ensure_synthetic({options, true}, scratch.path(), 2, {});
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  EXPECT_TRUE(folder->filename().string().ends_with("4-1-matching")) << *folder;
  const auto without = ensure_synthetic(options, scratch.path(), 2, {});
  ASSERT_TRUE(without.has_value()) << without.error().message;
  auto files = all_files(*folder), usual = all_files(*without);
  for (const char* said : {"crabcast-synth.json", "crabcast-senses.jsonl"}) {
    EXPECT_EQ(files.erase(said), usual.erase(said));
  }
  std::erase_if(files, [](const auto& file) {
    return file.first.starts_with("a2v/") || file.first.starts_with("v2a/");
  });
  EXPECT_EQ(files, usual) << "the other data sets are the same, byte for byte";

  const auto report = inspect_corpus(*folder);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  for (const auto& set : report->datasets) {
    if (datasets()[set.dataset].task != Task::av_matching) continue;
    EXPECT_EQ(set.broken_rows + set.missing_files + set.repeated_rows + set.leaking_clips, 0U)
        << report->text();
  }
  EXPECT_NE(report->text().find("av_matching"), std::string::npos);

  const auto corpus = Corpus::open(*folder, {"av_matching"}, scratch / "indexes");
  ASSERT_TRUE(corpus.has_value()) << corpus.error().message;
  const auto front_end = model::load_front_end("nano");
  ASSERT_TRUE(front_end.has_value());
  for (const auto& set : (*corpus)->summary()) {
    SCOPED_TRACE(datasets()[set.dataset].id);
    const auto sample = (*corpus)->sample(set.dataset, Split::train, 0);
    ASSERT_TRUE(sample.has_value()) << sample.error().message;
    const auto processed = process_sample(*sample, *front_end, kDeadline);
    ASSERT_TRUE(processed.has_value()) << processed.error().message;
    const bool two_videos = datasets()[set.dataset].videos == 2;
    EXPECT_EQ(processed->grid_thw.size(0), two_videos ? 2 : 1);
    EXPECT_EQ(processed->seconds_per_grid.size(0), two_videos ? 2 : 1);
    EXPECT_EQ(processed->audio_lengths.size(0), two_videos ? 1 : 2);
    EXPECT_EQ(processed->audio_features.size(0), two_videos ? 1 : 2);
    EXPECT_EQ(processed->tokens.second_video, two_videos ? processed->tokens.video : 0);
    EXPECT_EQ(processed->tokens.second_audio > 0, !two_videos);
    EXPECT_EQ(sample->reference.empty(), false);
  }
}
INSTANTIATE_TEST_SUITE_P(Difficulties, MatchingCorpus,
                         ::testing::Values(Difficulty::easy, Difficulty::hard),
                         [](const auto& info) { return std::string(to_string(info.param)); });

}  // namespace
}  // namespace crabcast::data
