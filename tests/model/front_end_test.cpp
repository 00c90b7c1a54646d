// What a loader is told about a base.
#include "model/front_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/hf_base.h"

namespace crabcast::model {
namespace {

using crabcast::testing::TemporaryFolder;
using ::testing::HasSubstr;

TEST(FrontEnd, TakesItsShapesFromTheConfig) {
  ThinkerConfig config = nano();
  config.vision.patch_size = 16;
  config.vision.temporal_patch_size = 3;
  config.vision.spatial_merge_size = 7;
  config.audio.mel_bins = 80;
  const auto front_end = make_front_end(make_byte_tokenizer(), config);
  ASSERT_TRUE(front_end.has_value()) << front_end.error().message;
  EXPECT_EQ(front_end->media.image_size, 224);
  EXPECT_EQ(front_end->media.patch_size, 16);
  EXPECT_EQ(front_end->media.temporal_patch, 3);
  EXPECT_EQ(front_end->media.merge, 7);
  EXPECT_EQ(front_end->media.mel_bins, 80);
  EXPECT_EQ(front_end->media.seconds_per_grid, 2.0F);
  EXPECT_EQ(front_end->tokenizer->vocabulary_size(), 266);
}

TEST(FrontEnd, TenFramesOfTheSevenBillionModelAre320Tokens) {
  EXPECT_EQ(media_shape(qwen2_5_omni_7b()).vision_tokens(10), 320);
}

TEST(FrontEnd, WhatDoesNotFitIsRefused) {
  const auto refused = [](auto change) {
    ThinkerConfig config = nano();
    change(config);
    const auto front_end = make_front_end(make_byte_tokenizer(), config);
    EXPECT_FALSE(front_end.has_value());
    EXPECT_EQ(front_end.error().code, Errc::unsupported);
    return front_end.error().message;
  };
  EXPECT_THAT(refused([](auto& c) { c.vision.patch_size = 15; }), HasSubstr("blocks of 30"));
  EXPECT_THAT(refused([](auto& c) { c.text.vocab_size = 265; }), HasSubstr("266 ids"));
  EXPECT_THAT(refused([](auto& c) { c.special.video = 7; }),
              HasSubstr("video is 263 in the tokenizer, but 7 in config.json"));
  EXPECT_THAT(refused([](auto& c) { c.special.pad = 0; }), HasSubstr("pad is 256"));
}

TEST(FrontEnd, NanoAndUnknownBases) {
  const auto front_end = load_front_end("nano");
  ASSERT_TRUE(front_end.has_value()) << front_end.error().message;
  EXPECT_EQ(front_end->media.image_size, 112);
  const auto misspelt = load_front_end("nanno");
  ASSERT_FALSE(misspelt.has_value());
  EXPECT_EQ(misspelt.error().code, Errc::not_found);
  EXPECT_THAT(misspelt.error().message, HasSubstr("Did you mean \"nano\"?"));
  const auto missing = load_front_end("/models/Qwen2.5-Omni-7B");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_THAT(missing.error().message, HasSubstr("no such folder"));
}

TEST(FrontEnd, AFolderWithABadConfigIsRefusedForThat) {
  const TemporaryFolder folder;
  auto config = test::config_json(nano());
  config["thinker_config"]["text_config"]["hidden_act"] = "relu";
  test::write_config(folder.path(), config);
  const auto front_end = load_front_end(folder.path().string());
  ASSERT_FALSE(front_end.has_value());
  EXPECT_EQ(front_end.error().code, Errc::unsupported);
  EXPECT_THAT(front_end.error().message, HasSubstr("hidden_act"));
}

}  // namespace
}  // namespace crabcast::model
