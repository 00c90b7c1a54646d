#include "model/tokenizer.h"

#include <gtest/gtest.h>

namespace crabcast::model {
namespace {

TEST(ByteTokenizer, TextComesBackAsItWas) {
  const auto tokenizer = make_byte_tokenizer();
  for (const std::string text : {std::string(), std::string("a dog barks at [12,40]"),
                                 std::string("gr\xC3\xBC\xC3\x9F \xE7\x8C\xAB \xF0\x9F\xA6\x80"),
                                 std::string("\0\x01\x7F", 3)})
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(ByteTokenizer, TextNeverMakesASpecialToken) {
  const auto tokenizer = make_byte_tokenizer();
  const std::string text = "<|im_end|><|AUDIO|>\xFF\xFE";
  const auto ids = tokenizer->encode(text);
  ASSERT_EQ(ids.size(), text.size());
  for (const TokenId id : ids) EXPECT_LT(id, 256);
}

TEST(ByteTokenizer, DecodingLeavesSpecialAndUnknownIdsOut) {
  const auto tokenizer = make_byte_tokenizer();
  const SpecialTokens& s = tokenizer->special();
  EXPECT_EQ(tokenizer->decode({s.im_start, 'h', s.audio, 'i', 271, -5, s.im_end, s.pad}), "hi");
}

TEST(ByteTokenizer, BrokenUtf8IsReplaced) {
  const auto tokenizer = make_byte_tokenizer();
  const std::string r = "\xEF\xBF\xBD";
  const auto decode = [&](const std::string& bytes) {
    return tokenizer->decode(tokenizer->encode(bytes));
  };
  EXPECT_EQ(decode("a\xFFz"), "a" + r + "z");
  EXPECT_EQ(decode("\xE7\x8C"), r);  // cut short: one mark
  EXPECT_EQ(decode("\xE7\x8Cx"), r + "x");
  EXPECT_EQ(decode("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(decode("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(decode("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(decode("\x80"), r);
}

TEST(ByteTokenizer, SpecialTokensDifferAndFollowTheBytes) {
  const auto tokenizer = make_byte_tokenizer();
  const SpecialTokens& s = tokenizer->special();
  std::vector<TokenId> ids = {s.pad,       s.im_start, s.im_end, s.audio,        s.audio_begin,
                              s.audio_end, s.image,    s.video,  s.vision_begin, s.vision_end};
  std::sort(ids.begin(), ids.end());
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], 256 + static_cast<TokenId>(i));
  EXPECT_EQ(tokenizer->vocabulary_size(), 266);
}

TEST(MediaShape, CountsTokens) {
  const auto front_end = load_front_end("nano");
  ASSERT_TRUE(front_end.has_value()) << front_end.error().message;
  EXPECT_EQ(front_end->media.vision_tokens(10), 5 * 16);
  EXPECT_EQ(front_end->media.vision_tokens(1), 16);
  EXPECT_EQ(front_end->media.vision_tokens(3), 32);  // the last frame is repeated
  EXPECT_EQ(front_end->media.vision_tokens(0), 0);
  EXPECT_EQ(MediaShape{}.vision_tokens(10), 320);  // 224 x 224
}

TEST(MediaShape, ShortSoundMakesNoToken) {
  const std::int64_t frames[] = {0, 1, 2, 3, 4, 5, 6, 7, 100, 200, 1000, 30000};
  const std::int64_t tokens[] = {0, 0, 0, 1, 1, 1, 1, 2, 25, 50, 250, 7500};
  for (std::size_t i = 0; i < std::size(frames); ++i)
    EXPECT_EQ(MediaShape::audio_tokens(frames[i]), tokens[i]) << frames[i] << " frames";
}

}  // namespace
}  // namespace crabcast::model
