// Lessons: the same for the same seed, different from each other, and nothing in them that gives
// away how the seventeen data sets write their answers.
#include "data/lesson.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "data/answers.h"
#include "model/tokenizer.h"

namespace crabcast::data {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kSide = 224;
constexpr int kKinds = static_cast<int>(std::size(kLessonNames));

Lesson lesson(int kind, std::uint64_t index, std::uint64_t seed = 1, int turns = 1) {
  return make_lesson(static_cast<LessonKind>(kind), seed, index, turns, kSide);
}

std::string text_of(const Lesson& lesson) {
  std::string text;
  for (const auto& [question, answer] : lesson.turns) text += question + "\n" + answer + "\n";
  return text;
}

model::BaseFrontEnd front_end() {
  return model::load_front_end("nano").value();
}

TEST(Lesson, IsAFunctionOfItsArguments) {
  for (int kind = 0; kind < kKinds; ++kind) {
    const Lesson once = lesson(kind, 3), again = lesson(kind, 3);
    EXPECT_EQ(text_of(once), text_of(again)) << kLessonNames[kind];
    EXPECT_EQ(once.sound, again.sound) << kLessonNames[kind];
    ASSERT_EQ(once.frames.size(), again.frames.size());
    for (std::size_t i = 0; i < once.frames.size(); ++i)
      EXPECT_TRUE(at::equal(once.frames[i], again.frames[i]));
  }
}

TEST(Lesson, DiffersByIndexAndBySeed) {
  for (int kind = 0; kind < kKinds; ++kind) {
    std::set<std::string> texts;
    for (std::uint64_t index = 0; index < 8; ++index) texts.insert(text_of(lesson(kind, index)));
    for (std::uint64_t index = 0; index < 8; ++index) texts.insert(text_of(lesson(kind, index, 2)));
    EXPECT_GT(texts.size(), 4U) << kLessonNames[kind];
  }
}

TEST(Lesson, HasSomethingToSeeOrToHear) {
  for (int kind = 0; kind < kKinds; ++kind)
    for (std::uint64_t index = 0; index < 6; ++index) {
      const Lesson made = lesson(kind, index);
      EXPECT_TRUE(!made.frames.empty() || !made.sound.empty()) << kLessonNames[kind];
      for (const auto& frame : made.frames) {
        EXPECT_EQ(frame.scalar_type(), at::kByte);
        EXPECT_EQ(frame.sizes(), (at::IntArrayRef{3, kSide, kSide}));
      }
      ASSERT_EQ(made.turns.size(), 1U);
      EXPECT_FALSE(made.turns[0].question.empty());
      EXPECT_FALSE(made.turns[0].answer.empty());
    }
}

TEST(Lesson, DoesNotWriteAsTheDataSetsDo) {
  for (int kind = 0; kind < kKinds; ++kind)
    for (std::uint64_t index = 0; index < 20; ++index) {
      const std::string text = text_of(lesson(kind, index, 1, 3));
      for (const char* given_away : {"<think>", "<answer>", "I hear a", " s;", "(both)", "bouncing",
                                     "spinning", "neutral", "happy", "surprise", "left of"})
        EXPECT_THAT(text, Not(HasSubstr(given_away))) << kLessonNames[kind];
    }
}

TEST(Lesson, PictureBoxesAreThoseOfTheAnswers) {
  int boxes = 0;
  for (std::uint64_t index = 0; index < 30; ++index)
    for (const auto& turn : lesson(static_cast<int>(LessonKind::look), index, 1, 4).turns)
      if (const auto box = first_box(turn.answer)) {
        ++boxes;
        EXPECT_LT(box->x1, box->x2);
        EXPECT_LT(box->y1, box->y2);
        EXPECT_LT(box->x2, kSide);
      }
  EXPECT_GT(boxes, 10);
}

TEST(LessonTokens, TrainTheAnswersAndTheirEnds) {
  const auto front = front_end();
  const Lesson made = lesson(static_cast<int>(LessonKind::match), 5, 1, 2);
  ASSERT_EQ(made.turns.size(), 2U);
  const LessonTokens tokens = process_lesson(made, front);
  ASSERT_EQ(tokens.ids.size(), tokens.trained.size());
  std::vector<model::TokenId> trained;
  for (std::size_t i = 0; i < tokens.ids.size(); ++i)
    if (tokens.trained[i]) trained.push_back(tokens.ids[i]);
  EXPECT_EQ(front.tokenizer->decode(trained),
            "\n" + made.turns[0].answer + "\n" + made.turns[1].answer);
  EXPECT_EQ(std::count(trained.begin(), trained.end(), front.tokenizer->special().im_end), 2);
}

TEST(LessonTokens, PromptIsWhatComesBeforeTheFirstAnswer) {
  const auto front = front_end();
  const Lesson made = lesson(static_cast<int>(LessonKind::face), 1);
  const LessonTokens whole = process_lesson(made, front), prompt = lesson_prompt(made, front);
  ASSERT_LT(prompt.ids.size(), whole.ids.size());
  EXPECT_TRUE(std::equal(prompt.ids.begin(), prompt.ids.end(), whole.ids.begin()));
  EXPECT_EQ(std::count(prompt.trained.begin(), prompt.trained.end(), true), 0);
}

TEST(LessonBatch, LabelsAreTheTrainedTokens) {
  const auto front = front_end();
  std::vector<LessonTokens> lessons;
  for (int kind = 0; kind < kKinds; ++kind)
    lessons.push_back(process_lesson(lesson(kind, 2), front));
  const Batch batch = make_lesson_batch(lessons, front);
  for (std::size_t row = 0; row < lessons.size(); ++row) {
    const auto& one = lessons[row];
    const auto at = static_cast<std::int64_t>(row);
    EXPECT_EQ(batch.attention_mask[at].sum().item<std::int64_t>(),
              static_cast<std::int64_t>(one.ids.size()));
    for (std::size_t i = 0; i < one.ids.size(); ++i)
      ASSERT_EQ(batch.labels[at][static_cast<std::int64_t>(i)].item<std::int64_t>(),
                one.trained[i] ? one.ids[i] : -100);
  }
}

}  // namespace
}  // namespace crabcast::data
