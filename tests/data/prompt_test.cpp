#include "data/prompt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace crabcast::data {
namespace {

// Special tokens by their names, bytes as they are.
std::string spelled(const model::Tokenizer& tokenizer, const std::vector<model::TokenId>& ids) {
  const auto& special = tokenizer.special();
  const std::map<model::TokenId, std::string> names = {{special.im_start, "<|im_start|>"},
                                                       {special.im_end, "<|im_end|>"},
                                                       {special.audio, "<A>"},
                                                       {special.audio_begin, "<|audio_bos|>"},
                                                       {special.audio_end, "<|audio_eos|>"},
                                                       {special.image, "<I>"},
                                                       {special.video, "<V>"},
                                                       {special.vision_begin, "<|vision_bos|>"},
                                                       {special.vision_end, "<|vision_eos|>"}};
  std::string text;
  for (const auto id : ids) {
    const auto name = names.find(id);
    text += name != names.end() ? name->second : tokenizer.decode({id});
  }
  return text;
}

TEST(Prompt, IsTheChatTemplate) {
  const auto tokenizer = model::make_byte_tokenizer();
  MediaTokens media;
  media.video = 2;
  media.audio = 3;
  EXPECT_EQ(spelled(*tokenizer, prompt_tokens(*tokenizer, "Name the action.", media)),
            "<|im_start|>system\nYou see and hear.<|im_end|>\n"
            "<|im_start|>user\n<|vision_bos|><V><V><|vision_eos|>"
            "<|audio_bos|><A><A><A><|audio_eos|>Name the action.<|im_end|>\n"
            "<|im_start|>assistant");
  media = {};
  media.image = 1;
  EXPECT_EQ(spelled(*tokenizer, prompt_tokens(*tokenizer, "Where?", media)),
            "<|im_start|>system\nYou see and hear.<|im_end|>\n"
            "<|im_start|>user\n<|vision_bos|><I><|vision_eos|>Where?<|im_end|>\n"
            "<|im_start|>assistant");
}

TEST(Prompt, HasAVideoBeforeAPictureAndTheSystemTextThatIsGiven) {
  const auto tokenizer = model::make_byte_tokenizer();
  EXPECT_EQ(spelled(*tokenizer, prompt_tokens(*tokenizer, "Both?",
                                              {.video = 1, .image = 2, .audio = 1}, "Be brief.")),
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\n<|vision_bos|><V><|vision_eos|><|vision_bos|><I><I><|vision_eos|>"
            "<|audio_bos|><A><|audio_eos|>Both?<|im_end|>\n"
            "<|im_start|>assistant");
}

TEST(Prompt, TheAnswerStartsWithTheNewlineAndEndsItsTurn) {
  const auto tokenizer = model::make_byte_tokenizer();
  EXPECT_EQ(spelled(*tokenizer, answer_tokens(*tokenizer, "two")), "\ntwo<|im_end|>");
  EXPECT_EQ(spelled(*tokenizer, answer_start(*tokenizer)), "\n");
}

TEST(Prompt, ASecondVideoOrSoundIsABlockOfItsOwn) {
  const auto tokenizer = model::make_byte_tokenizer();
  const auto& special = tokenizer->special();
  const auto ids = prompt_tokens(*tokenizer, "Which?",
                                 {.video = 3, .audio = 2, .second_video = 3, .second_audio = 1});
  std::vector<std::int64_t> blocks;  // placeholders between the marks
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == special.vision_begin || ids[i] == special.audio_begin) blocks.push_back(0);
    if (ids[i] == special.video || ids[i] == special.audio) ++blocks.back();
  }
  EXPECT_EQ(blocks, (std::vector<std::int64_t>{3, 3, 2, 1}));
}

// A text from a corpus cannot end the turn early.
TEST(Prompt, TextThatLooksLikeATokenIsOnlyText) {
  const auto tokenizer = model::make_byte_tokenizer();
  const auto ids = prompt_tokens(*tokenizer, "<|im_end|>", {});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer->special().im_end), 2);
}

TEST(Prompt, EveryDataSetHasSeveralShortWordings) {
  for (DatasetRow row = 0; row < datasets().size(); ++row) {
    const auto& table = datasets()[row];
    SCOPED_TRACE(table.id);
    std::set<std::string> wordings;
    for (std::uint64_t index = 0; index < 200; ++index) {
      const auto text = instruction(table, {row, index, 0}, "QUESTION");
      wordings.insert(text);
      EXPECT_LE(text.size(), 60U) << text;
      EXPECT_EQ(text.find("{}"), std::string::npos) << text;
      const bool asks = table.task == Task::av_question_answering || table.id == "ref_avs";
      EXPECT_EQ(text.find("QUESTION") != std::string::npos, asks) << text;
      EXPECT_EQ(text, instruction(table, {row, index, 0}, "QUESTION"));
    }
    EXPECT_EQ(wordings.size(), 4U);
  }
}

TEST(Prompt, TheWordingFollowsSeedAndEpoch) {
  std::set<std::string> wordings;
  for (std::uint64_t wording = 0; wording < 100; ++wording)
    wordings.insert(instruction(datasets()[0], {0, 7, wording}, ""));
  EXPECT_EQ(wordings.size(), 4U);
}

}  // namespace
}  // namespace crabcast::data
