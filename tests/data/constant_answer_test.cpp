// The best constant answer, on corpora of a few rows made by hand.
#include "data/constant_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/answers.h"

namespace crabcast::data {
namespace {

using ::testing::HasSubstr;

class Rows final : public Corpus {
 public:
  Rows(std::string_view dataset, const std::vector<std::string>& finals) {
    const Dataset* table = find_dataset(dataset);
    const auto row = static_cast<DatasetRow>(table - datasets().data());
    for (const std::string& final : finals) {
      Sample sample;
      sample.dataset = row;
      sample.task = table->task;
      sample.target = make_target("because", final);
      sample.reference = final;
      samples_.push_back(sample);
    }
    summary_ = {{row, samples_.size(), 0}};
  }
  [[nodiscard]] const std::filesystem::path& folder() const override { return folder_; }
  [[nodiscard]] const std::vector<DatasetSummary>& summary() const override { return summary_; }
  [[nodiscard]] std::uint64_t fingerprint() const override { return 1; }
  [[nodiscard]] Result<Sample> sample(DatasetRow /*dataset*/, Split /*split*/, std::uint64_t index,
                                      std::uint64_t /*wording*/) const override {
    return samples_.at(index);
  }

 private:
  std::vector<Sample> samples_;
  std::vector<DatasetSummary> summary_;
  std::filesystem::path folder_;
};

std::string best(const Rows& rows, Task task) {
  auto answer = best_constant_answer(rows, task);
  EXPECT_TRUE(answer) << answer.error().message;
  return answer ? *answer : "";
}

TEST(ConstantAnswer, IsTheMostFrequentClass) {
  EXPECT_EQ(
      best(Rows("ks", {"falling", "sliding", "sliding", "growing"}), Task::action_recognition),
      "sliding");
}

TEST(ConstantAnswer, IsTheBoxThatOverlapsMost) {
  const Rows rows("arig", {"bell [0,0,99,99]", "drum [10,10,89,89]", "bell [180,180,199,199]"});
  const auto box = first_box(best(rows, Task::spatial_localization));
  ASSERT_TRUE(box);
  EXPECT_GT(box_iou(*box, {5, 5, 94, 94}), 0.75);
}

TEST(ConstantAnswer, IsNoWorseThanAnyBoxOfTheSplit) {
  std::vector<Box> truths;
  std::vector<std::string> finals;
  for (int i = 0; i < 5; ++i) {
    truths.push_back({20.0 * i, 15.0 * i, 20.0 * i + 80, 15.0 * i + 90});
    finals.push_back("bell " + format_box(truths.back()));
  }
  const auto box = first_box(best(Rows("arig", finals), Task::spatial_localization));
  ASSERT_TRUE(box);
  const auto sum = [&](const Box& answer) {
    double overlap = 0;
    for (const Box& truth : truths) overlap += box_iou(truth, answer);
    return overlap;
  };
  for (const Box& truth : truths) EXPECT_GE(sum(*box), sum(truth));
  EXPECT_GT(sum(*box), sum(truths.front()) + 0.5);
}

TEST(ConstantAnswer, IsNoneWhereMostOftenNothingIsMeant) {
  EXPECT_EQ(best(Rows("ref_avs", {"none", "none", "bell [0,0,50,50] [1,1] [2,2] [3,3]"}),
                 Task::segmentation),
            "none");
}

TEST(ConstantAnswer, IsSilenceWhereEventsAreShort) {
  EXPECT_EQ(
      best(Rows("ave", {"bell: 0-2 s", "drum: 4-6 s", "horn: 7-9 s"}), Task::temporal_localization),
      "none");
  EXPECT_EQ(best(Rows("ave", {"bell: 0-9 s", "bell: 1-10 s", "horn: 7-9 s"}),
                 Task::temporal_localization),
            "bell: 0-9 s");
}

TEST(ConstantAnswer, SentenceIsBetterThanAnyOfTheSplit) {
  const std::vector<std::string> sentences = {"a red drum beats left of a blue bell",
                                              "a green horn blows right of a red drum",
                                              "a blue bell rings left of a green horn"};
  const std::string constant = best(Rows("avcap", sentences), Task::captioning);
  const auto mean = [&](const std::string& answer) {
    double sum = 0;
    for (const std::string& sentence : sentences) sum += token_f1(sentence, answer);
    return sum / static_cast<double>(sentences.size());
  };
  for (const std::string& sentence : sentences) EXPECT_GE(mean(constant), mean(sentence));
  EXPECT_GT(mean(constant), 0.6);
}

TEST(ConstantAnswer, NeedsARowOfTheTask) {
  const auto answer = best_constant_answer(Rows("ks", {"falling"}), Task::captioning);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::data_error);
  EXPECT_THAT(answer.error().message, HasSubstr("captioning"));
}

}  // namespace
}  // namespace crabcast::data
