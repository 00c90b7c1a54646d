#include "data/inspect.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using nlohmann::json;
using testing::TemporaryFolder;
using testing::write_text;

json ks_row(int number) {
  const auto n = std::to_string(number);
  return {{"video_path", n + ".mp4"},
          {"audio_path", n + ".wav"},
          {"action", "running"},
          {"label", "<think>legs</think><answer>running</answer>"}};
}

// Three training rows, one of them broken and one without its sound, and a test split.
void write_ks(const TemporaryFolder& folder) {
  json train = {ks_row(0), ks_row(1), ks_row(2)};
  train[1].erase("label");
  write_text(folder / "ks/train.json", train.dump(1));
  write_text(folder / "ks/test.json", json{ks_row(3)}.dump(1));
  for (const auto* name :
       {"video/0.mp4", "video/1.mp4", "video/2.mp4", "audio/0.wav", "video/3.mp4", "audio/3.wav"})
    write_text(folder / "ks" / name, "x");
}

TEST(Inspect, CountsAndNamesWhatIsWrong) {
  const TemporaryFolder folder;
  write_ks(folder);
  write_text(folder / "avcap/train.json", "[\n{]");
  std::filesystem::create_directory(folder / "my_notes");
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_FALSE(report->clean());
  ASSERT_EQ(report->datasets.size(), 2U);
  const auto& ks = report->datasets[0];
  EXPECT_EQ(ks.train, 3U);
  EXPECT_EQ(ks.test, 1U);
  EXPECT_FALSE(ks.held_out);
  EXPECT_EQ(ks.broken_rows, 1U);
  EXPECT_EQ(ks.missing_files, 1U);
  ASSERT_EQ(ks.problems.size(), 2U);
  EXPECT_EQ(ks.problems[0].line, 8U);
  EXPECT_NE(ks.problems[0].message.find("label"), std::string::npos);
  EXPECT_NE(ks.problems[1].message.find("2.wav"), std::string::npos);
  ASSERT_TRUE(ks.example.has_value());
  EXPECT_EQ(ks.example->reference, "running");

  const auto& avcap = report->datasets[1];
  EXPECT_EQ(avcap.train, 0U);
  ASSERT_EQ(avcap.problems.size(), 1U);
  EXPECT_NE(avcap.problems[0].message.find("broken JSON"), std::string::npos);
  EXPECT_EQ(report->unknown, std::vector<std::string>{"my_notes"});
  EXPECT_EQ(report->absent.size(), 15U);
}

TEST(Inspect, TextAndJsonSayTheSame) {
  const TemporaryFolder folder;
  write_ks(folder);
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value());
  const auto text = report->text();
  for (const auto* part : {"action_recognition", "train.json:8: the field \"label\" is missing",
                           "2.wav", "problems", "examples", "running"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  const auto parsed = json::parse(report->json());
  EXPECT_EQ(parsed["clean"], false);
  EXPECT_EQ(parsed["datasets"][0]["dataset"], "ks");
  EXPECT_EQ(parsed["datasets"][0]["train"], 3);
  EXPECT_EQ(parsed["datasets"][0]["problems"][0]["line"], 8);
  EXPECT_EQ(parsed["datasets"][0]["example"]["reference"], "running");
}

TEST(Inspect, AWholeCorpusIsClean) {
  const TemporaryFolder folder;
  write_text(folder / "ks/train.json", json{ks_row(0), ks_row(1)}.dump());
  for (const auto* name : {"video/0.mp4", "audio/0.wav", "video/1.mp4", "audio/1.wav"})
    write_text(folder / "ks" / name, "x");
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value());
  EXPECT_TRUE(report->clean()) << report->text();
  EXPECT_EQ(report->text().find("problems"), std::string::npos);
  EXPECT_TRUE(report->datasets[0].held_out);
  EXPECT_EQ(report->datasets[0].train, 1U);
  EXPECT_EQ(report->datasets[0].test, 1U);
}

TEST(Inspect, ManyProblemsOfAKindAreCountedNotListed) {
  const TemporaryFolder folder;
  json rows = json::array();
  for (int i = 0; i < 100; ++i) rows.push_back(ks_row(i));
  write_text(folder / "ks/train.json", rows.dump());
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->datasets[0].missing_files, 200U);
  EXPECT_EQ(report->datasets[0].problems.size(), 5U);
}

TEST(Inspect, RowsThatRepeatAndClipsOfBothSplits) {
  const TemporaryFolder folder;
  auto same_clip = ks_row(0);
  same_clip["action"] = "walking";
  write_text(folder / "ks/train.json", json{ks_row(0), ks_row(1), ks_row(1), same_clip}.dump(1));
  write_text(folder / "ks/test.json", json{ks_row(1), ks_row(2)}.dump());
  for (const auto* name :
       {"video/0.mp4", "audio/0.wav", "video/1.mp4", "audio/1.wav", "video/2.mp4", "audio/2.wav"})
    write_text(folder / "ks" / name, "x");
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value());
  const auto& ks = report->datasets[0];
  EXPECT_EQ(ks.repeated_rows, 1U);
  EXPECT_EQ(ks.leaking_clips, 1U);
  ASSERT_EQ(ks.problems.size(), 2U);
  EXPECT_EQ(ks.problems[0].line, 14U);
  EXPECT_NE(ks.problems[1].file.find("test.json"), std::string::npos);
  EXPECT_NE(ks.problems[1].message.find("1.mp4"), std::string::npos);
}

TEST(Inspect, BrokenRowsAreNamedOneByOne) {
  const TemporaryFolder folder;
  write_text(folder / "ks/train.json", "[\n{\"a\": },\n" + ks_row(0).dump() + ",\n{\"b\" 1}\n]");
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value());
  const auto& ks = report->datasets[0];
  EXPECT_EQ(ks.broken_rows, 2U);
  ASSERT_GE(ks.problems.size(), 2U);
  EXPECT_EQ(ks.problems[0].line, 2U);
  EXPECT_EQ(ks.problems[0].message.find("broken JSON"), 0U) << ks.problems[0].message;
}

// Copies under other names are found by their bytes, also across the splits.
TEST(Inspect, MediaAreMeasuredAndCompared) {
  const TemporaryFolder folder;
  testing::write_clip(folder / "ks/video/0.mp4");
  for (const auto* copy : {"ks/video/1.mp4", "ks/video/2.mp4"}) {
    std::filesystem::copy_file(folder / "ks/video/0.mp4", folder / copy);
  }
  write_text(folder / "ks/video/3.mp4", "no video");
  for (const auto* name : {"audio/0.wav", "audio/1.wav", "audio/2.wav", "audio/3.wav"})
    write_text(folder / "ks" / name, "x");
  write_text(folder / "ks/train.json", json{ks_row(0), ks_row(1), ks_row(3)}.dump());
  write_text(folder / "ks/test.json", json{ks_row(2)}.dump());
  const auto report = inspect_corpus(folder.path(), {.media = true, .threads = 2});
  ASSERT_TRUE(report.has_value());
  const auto& ks = report->datasets[0];
  EXPECT_NEAR(ks.seconds, 15, 0.5);
  EXPECT_EQ(ks.unreadable, 1U);
  EXPECT_EQ(ks.copied_clips, 2U);
  EXPECT_EQ(ks.leaking_copies, 1U);
  EXPECT_EQ(ks.leaking_clips, 0U);
  EXPECT_NE(report->text().find("LEAKING COPIES"), std::string::npos);
}

TEST(Inspect, NoCorpus) {
  const TemporaryFolder folder;
  EXPECT_EQ(inspect_corpus(folder / "missing").error().code, Errc::not_found);
  EXPECT_EQ(inspect_corpus(folder.path()).error().code, Errc::not_found);
  write_text(folder / "file", "x");
  EXPECT_EQ(inspect_corpus(folder / "file").error().code, Errc::not_found);
}

TEST(Inspect, AnEmptyDataSetIsAProblem) {
  const TemporaryFolder folder;
  write_text(folder / "ks/train.json", "[]");
  const auto report = inspect_corpus(folder.path());
  ASSERT_TRUE(report.has_value());
  EXPECT_FALSE(report->clean());
  EXPECT_NE(report->text().find("empty"), std::string::npos);
}

}  // namespace
}  // namespace crabcast::data
