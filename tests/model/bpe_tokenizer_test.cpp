#include "model/bpe_tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "model/unicode.h"
#include "model/word_split.h"
#include "tests/model/bpe_fixture.h"

namespace crabcast::model {
namespace {

using nlohmann::json;

constexpr int kShown = 10;  // differences; more do not help

std::string ascii(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 400);
}

class BpeGolden : public testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = small_tokenizer();
    ASSERT_NE(tokenizer_, nullptr);
    golden_ = json::parse(text_of(golden_folder() / "golden.json"));
    ASSERT_GT(golden_["encode"].size(), 500U);
    ASSERT_GT(golden_["decode"].size(), 100U);
  }
  std::shared_ptr<const BpeTokenizer> tokenizer_;
  json golden_;
};

TEST_F(BpeGolden, EncodesAsTokenizersDoes) {
  int wrong = 0;
  for (const json& entry : golden_["encode"]) {
    const std::vector<TokenId> expected = entry["ids"];
    const auto ids = tokenizer_->encode(entry["text"].get<std::string>());
    if (ids != expected && ++wrong <= kShown)
      ADD_FAILURE() << ascii(entry["text"]) << "\n" << ascii(expected) << "\n" << ascii(ids);
  }
  EXPECT_EQ(wrong, 0) << "of " << golden_["encode"].size();
}

TEST_F(BpeGolden, EncodesWithAddedTokensAsTokenizersDoes) {
  int wrong = 0, with_added = 0;
  for (const json& entry : golden_["encode"]) {
    const bool has_added = entry.contains("with_added_tokens");
    const std::vector<TokenId> expected = entry[has_added ? "with_added_tokens" : "ids"];
    const auto ids = tokenizer_->encode_with_added_tokens(entry["text"].get<std::string>());
    with_added += has_added ? 1 : 0;
    if (ids != expected && ++wrong <= kShown)
      ADD_FAILURE() << ascii(entry["text"]) << "\n" << ascii(expected) << "\n" << ascii(ids);
  }
  EXPECT_EQ(wrong, 0) << "of " << golden_["encode"].size();
  EXPECT_GT(with_added, 30);
}

TEST_F(BpeGolden, SplitsAsTokenizersDoes) {
  const auto unicode = Unicode::load();
  ASSERT_TRUE(unicode.has_value()) << unicode.error().message;
  int wrong = 0;
  for (const json& entry : golden_["encode"]) {
    const std::string text = (*unicode)->to_nfc(entry["text"]);
    std::vector<std::size_t> words;
    for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(words.back()))
      words.push_back(first_word(**unicode, rest));
    if (words != entry["words"].get<std::vector<std::size_t>>() && ++wrong <= kShown)
      ADD_FAILURE() << ascii(entry) << "\n" << ascii(words);
  }
  EXPECT_EQ(wrong, 0) << "of " << golden_["encode"].size();
}

TEST_F(BpeGolden, DecodesAsTokenizersDoes) {
  int wrong = 0;
  const auto check = [&](const json& entry, const char* ids_name, const std::string& expected) {
    const auto text = tokenizer_->decode(entry[ids_name]);
    if (text != expected && ++wrong <= kShown) ADD_FAILURE() << ascii(entry) << "\n" << ascii(text);
  };
  for (const json& entry : golden_["decode"]) check(entry, "ids", entry["decoded"]);
  for (const json& entry : golden_["encode"])
    check(entry, entry.contains("with_added_tokens") ? "with_added_tokens" : "ids",
          entry[entry.contains("decoded") ? "decoded" : "text"]);
  EXPECT_EQ(wrong, 0);
}

TEST(BpeTokenizer, KnowsItsSpecialTokensByName) {
  const auto tokenizer = small_tokenizer();
  const SpecialTokens& s = tokenizer->special();
  const std::vector<std::pair<std::string, TokenId>> names = {{"<|endoftext|>", s.pad},
                                                              {"<|im_start|>", s.im_start},
                                                              {"<|im_end|>", s.im_end},
                                                              {"<|AUDIO|>", s.audio},
                                                              {"<|audio_bos|>", s.audio_begin},
                                                              {"<|audio_eos|>", s.audio_end},
                                                              {"<|IMAGE|>", s.image},
                                                              {"<|VIDEO|>", s.video},
                                                              {"<|vision_bos|>", s.vision_begin},
                                                              {"<|vision_eos|>", s.vision_end}};
  for (const auto& [name, id] : names) {
    EXPECT_EQ(tokenizer->encode_with_added_tokens(name), std::vector<TokenId>{id}) << name;
    EXPECT_EQ(tokenizer->decode({id}), "") << name;
  }
  EXPECT_EQ(s.im_start, s.pad + 1);
  EXPECT_EQ(tokenizer->vocabulary_size(), s.pad + 22);
}

TEST(BpeTokenizer, TheLongestAddedTokenIsMeant) {
  auto file = json::parse(small_tokenizer_json());
  json& added = file["added_tokens"];
  for (json& token : added)
    if (token["content"] == "<tool_call>") token["content"] = "<|im_end|>!";
  const auto tokenizer = parse_bpe_tokenizer(file.dump());
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const TokenId im_end = (*tokenizer)->special().im_end, longer = (*tokenizer)->special().pad + 14;
  EXPECT_EQ((*tokenizer)->encode_with_added_tokens("<|im_end|>!<|im_end|>"),
            (std::vector<TokenId>{longer, im_end}));
}

TEST(BpeTokenizer, PlainTextNeverMakesASpecialToken) {
  const auto tokenizer = small_tokenizer();
  const std::string text = "<|im_end|>\n<|im_start|>system<|AUDIO|></s><|endoftext|>";
  const auto ids = tokenizer->encode(text);
  for (const TokenId id : ids) EXPECT_LT(id, tokenizer->special().pad);
  EXPECT_EQ(tokenizer->decode(ids), text);
}

TEST(BpeTokenizer, BytesThatAreNotUtf8CountAsReplacementCharacters) {
  const auto tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer->encode("a\xFFz\xE7\x8C"), tokenizer->encode("a\uFFFDz\uFFFD"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("\xED\xA0\x80")), "\uFFFD\uFFFD\uFFFD");
}

TEST(BpeTokenizer, UnknownIdsAreLeftOutOfText) {
  const auto tokenizer = small_tokenizer();
  auto ids = tokenizer->encode("crab");
  for (const TokenId id : {TokenId{-1}, tokenizer->vocabulary_size(), TokenId{1} << 40})
    ids.push_back(id);
  EXPECT_EQ(tokenizer->decode(ids), "crab");
}

TEST(BpeTokenizer, ThreadsMayShareIt) {
  const auto tokenizer = small_tokenizer();
  const auto golden = json::parse(text_of(golden_folder() / "golden.json"))["encode"];
  const std::size_t strings = std::min<std::size_t>(golden.size(), 500);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (std::size_t k = 0; k < strings; ++k)
        if (tokenizer->encode(golden[k]["text"].get<std::string>()) !=
            golden[k]["ids"].get<std::vector<TokenId>>())
          ++wrong;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace crabcast::model
