// Prompts and labels are those of transformers' chat template and processor (chat_golden.py).
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/batch.h"
#include "data/prompt.h"
#include "model/bpe_tokenizer.h"
#include "tests/parity/golden.h"

namespace crabcast::data {
namespace {

using model::TokenId;
using nlohmann::json;

std::filesystem::path tokenizer_file() {
  if (const char* given = std::getenv("CRABCAST_PARITY_TOKENIZER")) return given;
  const char* source = std::getenv("CRABCAST_SOURCE");
  return std::filesystem::path(source != nullptr ? source : ".") / "tests/model/bpe/tokenizer.json";
}

class ChatParity : public testing::TestWithParam<std::string> {
 protected:
  ChatParity() {
    auto tokenizer = model::load_bpe_tokenizer(tokenizer_file());
    if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
    front_end_.tokenizer = *tokenizer;
    std::ifstream file(std::filesystem::path(GetParam()) / "chat.json");
    cases_ = json::parse(file);
  }

  [[nodiscard]] MediaTokens media_of(const json& chat) const {
    const auto& media = front_end_.media;
    return {.video = media.vision_tokens(chat.at("video_frames")),
            .image = media.vision_tokens(chat.at("image_frames")),
            .audio = chat.at("mel_frames") == 0
                         ? 0
                         : model::MediaShape::audio_tokens(chat.at("mel_frames"))};
  }
  [[nodiscard]] Processed processed(const json& chat) const {
    Processed out;
    out.prompt = prompt_tokens(*front_end_.tokenizer, chat.at("question").get<std::string>(),
                               media_of(chat), chat.at("system").get<std::string>());
    out.answer = answer_tokens(*front_end_.tokenizer, chat.at("target").get<std::string>());
    return out;
  }
  static std::vector<TokenId> row(const at::Tensor& ids_1L) {
    const auto* ids = ids_1L.const_data_ptr<std::int64_t>();
    return {ids, ids + ids_1L.numel()};
  }

  model::BaseFrontEnd front_end_;
  json cases_;
};

TEST_P(ChatParity, PromptsToBeAnswered) {
  ASSERT_GE(cases_.size(), 7U);
  for (const json& chat : cases_) {
    const Batch batch = make_batch({processed(chat)}, front_end_, BatchUse::generate);
    EXPECT_EQ(row(batch.input_ids), chat.at("prompt").get<std::vector<TokenId>>()) << chat;
  }
}

TEST_P(ChatParity, AnswersAndTheirLabels) {
  for (const json& chat : cases_) {
    const Batch batch = make_batch({processed(chat)}, front_end_, BatchUse::train);
    EXPECT_EQ(row(batch.input_ids), chat.at("ids").get<std::vector<TokenId>>()) << chat;
    EXPECT_EQ(row(batch.labels), chat.at("labels").get<std::vector<TokenId>>()) << chat;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ChatParity, testing::ValuesIn(model::test::golden_folders()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return std::filesystem::path(info.param).filename().string();
                         });

}  // namespace
}  // namespace crabcast::data
