#include "data/batch.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "data/decode.h"
#include "data/log_mel.h"
#include "data/prompt.h"
#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using testing::TemporaryFolder;
using testing::tone;

constexpr auto kDeadline = std::chrono::seconds(60);

model::BaseFrontEnd front_end() {
  auto base = model::load_front_end("nano");
  EXPECT_TRUE(base.has_value());
  return *base;
}

DatasetRow row_of(std::string_view id) {
  for (DatasetRow row = 0; row < datasets().size(); ++row)
    if (datasets()[row].id == id) return row;
  return 0;
}

class BatchTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    media_ = new TemporaryFolder;
    testing::write_clip(*media_ / "clip.mp4");
    testing::write_picture(*media_ / "picture.jpg", testing::numbered(3), AV_PIX_FMT_YUVJ420P);
    testing::write_sound(*media_ / "ten.wav", 10, [](double t, int) { return tone(t, 440); });
    testing::write_sound(*media_ / "five.wav", 5, [](double t, int) { return tone(t, 880); });
  }
  static void TearDownTestSuite() { delete media_; }

  Sample sample(std::string_view id, const std::string& target) const {
    Sample sample;
    sample.dataset = row_of(id);
    sample.task = datasets()[sample.dataset].task;
    const bool video = datasets()[sample.dataset].visual == VisualInput::video;
    (video ? sample.video : sample.image) = *media_ / (video ? "clip.mp4" : "picture.jpg");
    sample.audio = *media_ / (video ? "ten.wav" : "five.wav");
    sample.question = "What?";
    sample.target = target;
    return sample;
  }

  static Processed must(const Sample& sample) {
    auto processed = process_sample(sample, front_end(), kDeadline);
    EXPECT_TRUE(processed.has_value()) << processed.error().message;
    return std::move(*processed);
  }

  static std::int64_t count(const at::Tensor& ids, model::TokenId id) {
    return ids.eq(id).sum().item<std::int64_t>();
  }

  static inline TemporaryFolder* media_ = nullptr;
};

TEST_F(BatchTest, AVideoSample) {
  const auto front = front_end();
  const auto out = must(sample("ks", "<answer>running</answer>"));
  const auto side = front.media.image_size / front.media.patch_size;
  EXPECT_EQ(
      out.pixel_values.sizes(),
      (at::IntArrayRef{5 * side * side, 3 * front.media.temporal_patch * front.media.patch_size *
                                            front.media.patch_size}));
  EXPECT_EQ(out.grid_thw[0][0].item<int>(), 5);
  EXPECT_EQ(out.seconds_per_grid[0].item<float>(), 2.0F);
  EXPECT_EQ(out.audio_features.sizes(), (at::IntArrayRef{1, 128, 1000}));
  EXPECT_EQ(out.audio_lengths[0].item<int>(), 1000);
  const auto& special = front.tokenizer->special();
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.video),
            front.media.vision_tokens(10));
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.audio), 250);
  EXPECT_EQ(out.answer, answer_tokens(*front.tokenizer, "<answer>running</answer>"));
}

TEST_F(BatchTest, APictureSampleTakesItsSecondOfSound) {
  const auto front = front_end();
  auto row = sample("ms3", "x");
  row.frame_index = 2;
  const auto out = must(row);
  EXPECT_EQ(out.grid_thw[0][0].item<int>(), 1);
  EXPECT_EQ(out.seconds_per_grid[0].item<float>(), 0.0F);
  EXPECT_EQ(out.audio_features.size(2), 100);
  const auto sound = decode_audio(row.audio, {AudioWindow::at_frame_index, 5, 2});
  EXPECT_TRUE(at::equal(out.audio_features[0], log_mel(*sound, 128)));
  const auto& special = front.tokenizer->special();
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.image), 16);
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.video), 0);
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.audio), 25);
}

TEST_F(BatchTest, AVideoAndAPictureMayStandInOnePrompt) {
  const auto front = front_end();
  auto both = sample("ks", "x");
  both.image = *media_ / "picture.jpg";
  const auto out = must(both);
  const auto video = must(sample("ks", "x"));
  EXPECT_TRUE(at::equal(out.grid_thw.select(1, 0), at::tensor({5, 1}, at::kLong)));
  EXPECT_TRUE(at::equal(out.seconds_per_grid, at::tensor({2.0F, 0.0F})));
  const auto rows = video.pixel_values.size(0);
  EXPECT_EQ(out.pixel_values.size(0), rows + rows / 5);
  EXPECT_TRUE(at::equal(out.pixel_values.narrow(0, 0, rows), video.pixel_values));
  const auto& special = front.tokenizer->special();
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.image), 16);
  EXPECT_EQ(std::count(out.prompt.begin(), out.prompt.end(), special.video), 80);
}

TEST_F(BatchTest, TheSameSampleGivesTheSameBits) {
  const auto a = must(sample("ave", "x")), b = must(sample("ave", "x"));
  EXPECT_TRUE(at::equal(a.pixel_values, b.pixel_values));
  EXPECT_TRUE(at::equal(a.audio_features, b.audio_features));
}

TEST_F(BatchTest, TrainingBatch) {
  const auto front = front_end();
  const std::vector<Processed> samples = {must(sample("ks", "a longer answer")),
                                          must(sample("arig", "short"))};
  const auto batch = make_batch(samples, front, BatchUse::train);
  const auto length = [&](std::size_t i) {
    return static_cast<std::int64_t>(samples[i].prompt.size() + samples[i].answer.size());
  };
  const auto columns = std::max(length(0), length(1));
  ASSERT_EQ(batch.input_ids.sizes(), (at::IntArrayRef{2, columns}));
  for (std::int64_t row = 0; row < 2; ++row) {
    const auto& one = samples[static_cast<std::size_t>(row)];
    const auto prompt = static_cast<std::int64_t>(one.prompt.size());
    const auto answer = static_cast<std::int64_t>(one.answer.size());
    EXPECT_EQ(batch.attention_mask[row].sum().item<std::int64_t>(), prompt + answer);
    EXPECT_TRUE(batch.attention_mask[row][prompt + answer - 1].item<bool>());
    // Labels are the answer where it stands, and nothing else.
    EXPECT_EQ(count(batch.labels[row], -100), columns - answer);
    EXPECT_TRUE(at::equal(batch.labels[row].slice(0, prompt, prompt + answer),
                          batch.input_ids[row].slice(0, prompt, prompt + answer)));
    EXPECT_EQ(batch.labels[row][prompt].item<int>(), '\n');
    EXPECT_EQ(batch.labels[row][prompt + answer - 1].item<std::int64_t>(),
              front.tokenizer->special().im_end);
    EXPECT_EQ(count(batch.input_ids[row].slice(0, prompt + answer), front.tokenizer->special().pad),
              columns - prompt - answer);
  }
  // Each placeholder has a patch group or a mel token behind it.
  const auto& special = front.tokenizer->special();
  const auto merged = batch.pixel_values.size(0) / (front.media.merge * front.media.merge);
  EXPECT_EQ(count(batch.input_ids, special.video) + count(batch.input_ids, special.image), merged);
  EXPECT_EQ(count(batch.input_ids, special.audio), 250 + 125);
  EXPECT_EQ(batch.grid_thw.sizes(), (at::IntArrayRef{2, 3}));
  EXPECT_EQ(batch.seconds_per_grid.sizes(), (at::IntArrayRef{2}));
  EXPECT_EQ(batch.audio_features.sizes(), (at::IntArrayRef{2, 128, 1000}));
  EXPECT_EQ(batch.audio_lengths[1].item<int>(), 500);
  EXPECT_TRUE(at::equal(batch.audio_features[1].slice(1, 0, 500), samples[1].audio_features[0]));
  EXPECT_EQ(batch.audio_features[1].slice(1, 500).abs().max().item<float>(), 0.0F);
}

TEST_F(BatchTest, GenerationBatchEndsWhereTheAnswerBegins) {
  const auto front = front_end();
  const std::vector<Processed> samples = {must(sample("ks", "secret"))};
  const auto batch = make_batch(samples, front, BatchUse::generate);
  EXPECT_FALSE(batch.labels.defined());
  const auto columns = static_cast<std::int64_t>(samples[0].prompt.size()) + 1;
  ASSERT_EQ(batch.input_ids.sizes(), (at::IntArrayRef{1, columns}));
  EXPECT_EQ(batch.input_ids[0][columns - 1].item<int>(), '\n');
  EXPECT_EQ(count(batch.input_ids, 's'),
            count(make_batch(samples, front, BatchUse::train).input_ids, 's') - 1);
}

TEST_F(BatchTest, NoSamplesAndNoMedia) {
  const auto front = front_end();
  const auto empty = make_batch({}, front, BatchUse::train);
  EXPECT_EQ(empty.input_ids.sizes(), (at::IntArrayRef{0, 0}));
  Sample text;
  text.question = "Hello?";
  text.target = "Hi";
  const auto batch = make_batch({must(text)}, front, BatchUse::train);
  EXPECT_EQ(batch.pixel_values.sizes(),
            (at::IntArrayRef{0, 3 * front.media.temporal_patch * front.media.patch_size *
                                    front.media.patch_size}));
  EXPECT_EQ(batch.grid_thw.sizes(), (at::IntArrayRef{0, 3}));
  EXPECT_EQ(batch.audio_features.size(0), 0);
  EXPECT_EQ(batch.audio_lengths.numel(), 0);
}

TEST_F(BatchTest, ABadFileIsNamedAndADeadlineHolds) {
  auto broken = sample("ks", "x");
  broken.video = *media_ / "broken_clip.mp4";
  std::filesystem::copy_file(*media_ / "clip.mp4", broken.video);
  testing::cut_off(broken.video, 0.5);
  const auto damaged = process_sample(broken, front_end(), kDeadline);
  ASSERT_FALSE(damaged.has_value());
  EXPECT_EQ(damaged.error().code, Errc::data_error);
  EXPECT_NE(damaged.error().message.find("clip.mp4"), std::string::npos);
  const auto late = process_sample(sample("arig", "x"), front_end(), Duration::zero());
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code, Errc::timeout);
}

}  // namespace
}  // namespace crabcast::data
