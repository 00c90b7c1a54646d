#include "data/sample_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/patches.h"
#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using testing::TemporaryFolder;
using testing::write_text;

constexpr std::uint64_t kBytes = 64 << 20;
constexpr DatasetRow kWithVideo = 0;  // ks

TEST(PixelBytes, GiveBackTheSameBits) {
  for (const int patch_size : {14, 7}) {  // runs of values that are and are not multiples of eight
    model::MediaShape shape;
    shape.image_size = 28;
    shape.patch_size = patch_size;
    std::vector<at::Tensor> frames;
    for (int i = 0; i < 3; ++i) frames.push_back(at::randint(0, 256, {3, 28, 28}, at::kByte));
    frames.front().view({3, -1}).narrow(1, 0, 256).copy_(at::arange(256, at::kByte));
    const at::Tensor pixels = make_patches(frames, shape).pixel_values;
    const at::Tensor bytes = bytes_of_pixels(pixels);
    EXPECT_EQ(bytes.scalar_type(), at::kByte);
    EXPECT_TRUE(at::equal(pixels_of_bytes(bytes), pixels));
  }
}

class SampleCacheTest : public ::testing::Test {
 protected:
  SampleCacheTest() {
    write_text(folder_ / "clip.mp4", "a video");
    write_text(folder_ / "clip.wav", "a sound");
    auto opened = SampleCache::open(folder_ / "cache", kBytes);
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
    cache_ = std::move(*opened);
  }
  Sample sample() {
    Sample s;
    s.dataset = kWithVideo;
    s.video = folder_ / "clip.mp4";
    s.audio = folder_ / "clip.wav";
    return s;
  }
  // What decoding would give; counts how often it is asked.
  Result<SampleMedia> decode() {
    ++decoded_;
    SampleMedia media;
    model::MediaShape shape;
    shape.image_size = 28;
    auto patches = make_patches({at::full({3, 28, 28}, decoded_, at::kByte)}, shape);
    media.pixel_values = patches.pixel_values;
    media.grid_thw = patches.grid_thw;
    media.seconds_per_grid = at::full({1}, 2.0F);
    media.audio_features = at::randn({1, 128, 100});
    media.audio_lengths = at::full({1}, 100, at::kLong);
    media.tokens = {.video = 4, .image = 0, .audio = 25};
    return media;
  }
  SampleCache::Answer get(const Sample& of, const model::MediaShape& shape = {}) {
    auto answer = cache_->get(of, shape, [&] { return decode(); });
    EXPECT_TRUE(answer.has_value()) << answer.error().message;
    return std::move(*answer);
  }

  TemporaryFolder folder_;
  std::unique_ptr<SampleCache> cache_;
  int decoded_ = 0;
};

TEST_F(SampleCacheTest, DecodesOnce) {
  const auto first = get(sample());
  EXPECT_FALSE(first.cached);
  const auto second = get(sample());
  EXPECT_TRUE(second.cached);
  EXPECT_EQ(decoded_, 1);
  EXPECT_TRUE(at::equal(first.media.pixel_values, second.media.pixel_values));
  EXPECT_TRUE(at::equal(first.media.grid_thw, second.media.grid_thw));
  EXPECT_TRUE(at::equal(first.media.seconds_per_grid, second.media.seconds_per_grid));
  EXPECT_TRUE(at::equal(first.media.audio_features, second.media.audio_features));
  EXPECT_TRUE(at::equal(first.media.audio_lengths, second.media.audio_lengths));
  EXPECT_EQ(second.media.tokens.video, 4);
  EXPECT_EQ(second.media.tokens.audio, 25);
}

// The hashes that the cache had to take serve others as well.
TEST_F(SampleCacheTest, TellsWhatTheFilesHold) {
  for (const bool cached : {false, true}) {
    const auto answer = get(sample());
    EXPECT_EQ(answer.cached, cached);
    ASSERT_EQ(answer.files.size(), 2U);
    for (const auto& file : answer.files) {
      EXPECT_EQ(file.stamp, file_stamp(file.path));
      EXPECT_EQ(file.hash, *file_hash(file.path));
    }
    EXPECT_EQ(answer.files[0].path, sample().video);
    EXPECT_NE(answer.files[0].hash, answer.files[1].hash);
  }
}

TEST_F(SampleCacheTest, AChangedFileIsDecodedAgain) {
  (void)get(sample());
  write_text(folder_ / "clip.wav", "another sound");
  EXPECT_FALSE(get(sample()).cached);
  EXPECT_TRUE(get(sample()).cached);
  EXPECT_EQ(decoded_, 2);
}

TEST_F(SampleCacheTest, OtherSettingsAreAnotherEntry) {
  (void)get(sample());
  model::MediaShape larger;
  larger.image_size = 448;
  EXPECT_FALSE(get(sample(), larger).cached);
  Sample elsewhere = sample();
  elsewhere.frame_index = 3;
  EXPECT_FALSE(get(elsewhere).cached);
  EXPECT_TRUE(get(sample()).cached);
}

TEST_F(SampleCacheTest, ACopiedFileIsKnownByItsContent) {
  (void)get(sample());
  Sample copy = sample();
  copy.video = folder_ / "copy.mp4";
  write_text(copy.video, "a video");
  (void)get(copy);
  EXPECT_TRUE(get(copy).cached);
  EXPECT_TRUE(get(sample()).cached);
}

TEST_F(SampleCacheTest, AnErrorIsNotKept) {
  const auto broken = [&](int) -> Result<SampleMedia> {
    ++decoded_;
    return fail(Errc::data_error, "clip.mp4: decode: broken");
  };
  for (int i = 0; i < 2; ++i) {
    const auto answer = cache_->get(sample(), {}, [&] { return broken(i); });
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().message, "clip.mp4: decode: broken");
  }
  EXPECT_EQ(decoded_, 2);
}

TEST_F(SampleCacheTest, AFileThatChangesWhileItIsDecodedIsNotKept) {
  auto answer = cache_->get(sample(), {}, [&] {
    write_text(folder_ / "clip.mp4", "replaced meanwhile");
    return decode();
  });
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(get(sample()).cached);
}

TEST_F(SampleCacheTest, AMissingFileIsTheDecodersToReport) {
  Sample missing = sample();
  missing.audio = folder_ / "none.wav";
  EXPECT_FALSE(get(missing).cached);
  EXPECT_FALSE(get(missing).cached);
  EXPECT_EQ(decoded_, 2);
}

}  // namespace
}  // namespace crabcast::data
