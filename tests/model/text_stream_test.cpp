// Text comes as soon as it is certain, and all of it comes.
#include "model/text_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace crabcast::model {
namespace {

using testing::ElementsAre;

// The pieces that come with each byte of the text, and at the end.
std::vector<std::string> pieces(const std::string& bytes, std::vector<std::string> stops = {}) {
  const auto tokenizer = make_byte_tokenizer();
  TextStream stream(*tokenizer, std::move(stops));
  std::vector<std::string> out;
  for (const TokenId id : tokenizer->encode(bytes)) out.push_back(stream.add(id));
  out.push_back(stream.finish());
  return out;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const auto& part : parts) all += part;
  return all;
}

TEST(TextStream, PlainTextComesAtOnce) {
  EXPECT_THAT(pieces("abc"), ElementsAre("a", "b", "c", ""));
}

TEST(TextStream, ALetterWaitsForItsLastByte) {
  EXPECT_THAT(pieces("é!"), ElementsAre("", "é", "!", ""));
  EXPECT_THAT(pieces("🦀"), ElementsAre("", "", "", "🦀", ""));
}

TEST(TextStream, WhatIsNoLetterIsReplacedAsDecodeDoes) {
  const auto tokenizer = make_byte_tokenizer();
  for (const std::string bytes : {"a\xFFz", "\xC3", "x\xF0\x9F\xA6", "\xE2\x28\xA1 ok", "\xFF\xFF"})
    EXPECT_EQ(joined(pieces(bytes)), tokenizer->decode(tokenizer->encode(bytes)));
}

TEST(TextStream, SpecialTokensAreNoText) {
  const auto tokenizer = make_byte_tokenizer();
  TextStream stream(*tokenizer, {});
  EXPECT_EQ(stream.add(tokenizer->special().im_start), "");
  EXPECT_EQ(stream.add('a'), "a");
}

TEST(TextStream, AStopTextEndsItAndIsNotPartOfIt) {
  EXPECT_THAT(pieces("ab###c", {"###"}), ElementsAre("a", "b", "", "", "", "", ""));
  EXPECT_EQ(joined(pieces("one\n\ntwo", {"\n\n", "never"})), "one");
  EXPECT_EQ(joined(pieces("STOP", {"STOP"})), "");
}

TEST(TextStream, WhatOnlyBeganLikeAStopTextComesAfterAll) {
  EXPECT_THAT(pieces("a##b", {"###"}), ElementsAre("a", "", "", "##b", ""));
  EXPECT_THAT(pieces("a##", {"###"}), ElementsAre("a", "", "", "##"));
  EXPECT_EQ(joined(pieces("aab", {"ab"})), "a");
}

TEST(TextStream, TheFirstOfSeveralStopTextsCounts) {
  EXPECT_EQ(joined(pieces("abcdef", {"ef", "cd"})), "ab");
}

TEST(TextStream, NothingComesAfterAStopText) {
  const auto tokenizer = make_byte_tokenizer();
  TextStream stream(*tokenizer, {"x"});
  EXPECT_EQ(stream.add('x'), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.add('y'), "");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace crabcast::model
