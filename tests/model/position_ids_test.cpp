#include "model/position_ids.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace crabcast::model {
namespace {

using Ids = std::vector<std::int64_t>;

struct Media {
  std::vector<std::int64_t> grids = {}, audio_lengths = {};
  std::vector<float> seconds = {};
};

ModelInput make_input(const std::vector<Ids>& rows, const Media& media) {
  std::int64_t width = 0;
  for (const Ids& row : rows) width = std::max(width, static_cast<std::int64_t>(row.size()));
  const auto count = static_cast<std::int64_t>(rows.size());
  ModelInput input;
  input.input_ids = at::full({count, width}, nano().special.pad, at::kLong);
  input.attention_mask = at::zeros({count, width}, at::kBool);
  for (std::int64_t b = 0; b < count; ++b) {
    const Ids& row = rows[static_cast<std::size_t>(b)];
    const auto length = static_cast<std::int64_t>(row.size());
    input.input_ids[b].narrow(0, 0, length).copy_(at::tensor(row, at::kLong));
    input.attention_mask[b].narrow(0, 0, length).fill_(true);
  }
  input.grid_thw = at::tensor(media.grids, at::kLong).view({-1, 3});
  input.seconds_per_grid = at::tensor(media.seconds, at::kFloat);
  input.audio_lengths = at::tensor(media.audio_lengths, at::kLong);
  return input;
}

Ids axis(const Positions& positions, std::int64_t a, std::int64_t b) {
  const at::Tensor row = positions.ids_3BL[a][b].contiguous();
  return {row.const_data_ptr<std::int64_t>(), row.const_data_ptr<std::int64_t>() + row.numel()};
}

const SpecialTokens kS = nano().special;

TEST(Positions, TextVideoSoundByHand) {
  // Two words, a video of 2 temporal patches of 2 x 3 tokens (4 x 6 patches), 2 s each, a word, a
  // clip of 10 mel frames (2 tokens), a word; then padding.
  const Ids row = {'a',           'b',      kS.vision_begin, kS.video, kS.video,
                   kS.video,      kS.video, kS.video,        kS.video, kS.video,
                   kS.video,      kS.video, kS.video,        kS.video, kS.video,
                   kS.vision_end, 'c',      kS.audio_begin,  kS.audio, kS.audio,
                   kS.audio_end,  'd'};
  const Ids longer(24, 'x');
  const auto positions = multimodal_positions(
      nano(),
      make_input({row, longer}, {.grids = {2, 4, 6}, .audio_lengths = {10}, .seconds = {2}}));
  ASSERT_TRUE(positions.has_value()) << positions.error().message;
  //                       a  b  <  first patch       second patch, 50 later    >   c   <   audio >
  EXPECT_EQ(axis(*positions, 0, 0), (Ids{0,  1,  2,  3,  3,  3,  3,  3,  3,  53, 53, 53,
                                         53, 53, 53, 54, 55, 56, 57, 58, 59, 60, 1,  1}));
  EXPECT_EQ(axis(*positions, 1, 0),
            (Ids{0, 1, 2, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4, 54, 55, 56, 57, 58, 59, 60, 1, 1}));
  EXPECT_EQ(axis(*positions, 2, 0),
            (Ids{0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 4, 5, 54, 55, 56, 57, 58, 59, 60, 1, 1}));
  EXPECT_EQ(positions->next, (std::vector<std::int64_t>{61, 24}));
  for (std::int64_t i = 0; i < 24; ++i)
    EXPECT_EQ(axis(*positions, 0, 1)[static_cast<std::size_t>(i)], i);
}

TEST(Positions, AfterAPictureTextGoesOnAtItsLargestSide) {
  // 2 x 4 tokens: t stays at 1, w reaches 1 + 3.
  const Ids row = {kS.vision_begin, kS.image, kS.image, kS.image,      kS.image, kS.image,
                   kS.image,        kS.image, kS.image, kS.vision_end, 'a'};
  const auto positions =
      multimodal_positions(nano(), make_input({row}, {.grids = {1, 4, 8}, .seconds = {0}}));
  ASSERT_TRUE(positions.has_value()) << positions.error().message;
  EXPECT_EQ(axis(*positions, 0, 0), (Ids{0, 1, 1, 1, 1, 1, 1, 1, 1, 5, 6}));
  EXPECT_EQ(axis(*positions, 1, 0), (Ids{0, 1, 1, 1, 1, 2, 2, 2, 2, 5, 6}));
  EXPECT_EQ(axis(*positions, 2, 0), (Ids{0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6}));
}

TEST(Positions, VideoTimeIsTruncatedNotRounded) {
  // 0.66 s a patch: 0, 16.5, 33, 49.5 -> 0, 16, 33 (float32: 33.0), 49.
  Ids row = {kS.vision_begin};
  row.insert(row.end(), 4, kS.video);
  row.push_back(kS.vision_end);
  const auto positions =
      multimodal_positions(nano(), make_input({row}, {.grids = {4, 2, 2}, .seconds = {0.66F}}));
  ASSERT_TRUE(positions.has_value()) << positions.error().message;
  EXPECT_EQ(axis(*positions, 0, 0), (Ids{0, 1, 17, 34, 50, 51}));
}

TEST(Positions, MediaAreTakenInTheOrderOfSamples) {
  const Ids sound = {kS.audio_begin, kS.audio, kS.audio_end};
  const Ids longer_sound = {kS.audio_begin, kS.audio, kS.audio, kS.audio_end};
  const ModelInput right = make_input({sound, longer_sound}, {.audio_lengths = {4, 8}});
  EXPECT_TRUE(multimodal_positions(nano(), right).has_value());
  const ModelInput swapped = make_input({sound, longer_sound}, {.audio_lengths = {8, 4}});
  const auto refused = multimodal_positions(nano(), swapped);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  EXPECT_NE(refused.error().message.find("sample 0"), std::string::npos);
}

TEST(Positions, TwoClipsWithoutMarksBetweenThemAreTwoClips) {
  const Ids row = {kS.audio, kS.audio, kS.audio};
  const auto positions = multimodal_positions(nano(), make_input({row}, {.audio_lengths = {4, 8}}));
  ASSERT_TRUE(positions.has_value()) << positions.error().message;
  EXPECT_EQ(axis(*positions, 0, 0), (Ids{0, 1, 2}));
}

TEST(Positions, AClipTooShortForATokenIsSkipped) {
  const Ids empty = {kS.audio_begin, kS.audio_end}, one = {kS.audio_begin, kS.audio, kS.audio_end};
  const auto positions =
      multimodal_positions(nano(), make_input({empty, one, empty}, {.audio_lengths = {2, 4, 1}}));
  EXPECT_TRUE(positions.has_value()) << positions.error().message;
}

TEST(Positions, PlaceholdersAndMediaMustMatch) {
  const Ids picture(16, kS.image);
  const auto too_many = multimodal_positions(nano(), make_input({picture}, {}));
  EXPECT_FALSE(too_many.has_value());
  const auto unused =
      multimodal_positions(nano(), make_input({{'a'}}, {.grids = {1, 2, 2}, .seconds = {0}}));
  EXPECT_FALSE(unused.has_value());
  const auto wrong_count =
      multimodal_positions(nano(), make_input({picture}, {.grids = {1, 4, 4}, .seconds = {0}}));
  EXPECT_FALSE(wrong_count.has_value());
}

TEST(Positions, PaddingMayStandOnEitherSide) {
  const Ids row = {'a', kS.vision_begin, kS.image, kS.image, kS.vision_end, 'b'};
  const Media media{.grids = {1, 2, 4}, .seconds = {0}};
  const auto right = multimodal_positions(nano(), make_input({row, Ids(9, 'x')}, media));
  ASSERT_TRUE(right.has_value()) << right.error().message;
  for (const std::int64_t left : {1, 3}) {
    ModelInput moved = make_input({row, Ids(9, 'x')}, media);
    moved.input_ids[0] = moved.input_ids[0].roll(left);
    moved.attention_mask[0] = moved.attention_mask[0].roll(left);
    const auto positions = multimodal_positions(nano(), moved);
    ASSERT_TRUE(positions.has_value()) << positions.error().message;
    EXPECT_EQ(positions->tokens[0].begin, left);
    EXPECT_EQ(positions->tokens[0].length, 6);
    EXPECT_EQ(positions->next, right->next);
    EXPECT_TRUE(
        at::equal(positions->ids_3BL.select(1, 0), right->ids_3BL.select(1, 0).roll(left, 1)));
    EXPECT_TRUE(at::equal(positions->ids_3BL.select(1, 1), right->ids_3BL.select(1, 1)));
  }
}

}  // namespace
}  // namespace crabcast::model
