#include "data/decode.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using testing::Canvas;
using testing::ClipOptions;
using testing::number_in;
using testing::TemporaryFolder;
using testing::tone;
using testing::write_clip;
using testing::write_picture;
using testing::write_sound;
using testing::write_text;

std::vector<int> numbers(const std::vector<VideoFrame>& frames) {
  std::vector<int> list;
  for (const auto& frame : frames) list.push_back(number_in(frame.rgb));
  return list;
}

std::vector<int> expected_numbers(int frames, int count) {
  std::vector<int> list;
  for (const auto index : uniform_indices(frames, count)) list.push_back(static_cast<int>(index));
  return list;
}

struct Container {
  const char* name;
  const char* codec;
  int b_frames;
};

class DecodeVideo : public ::testing::TestWithParam<Container> {};

TEST_P(DecodeVideo, TakesFramesUniformlyByTheirOrder) {
  const TemporaryFolder folder;
  const auto path = folder / GetParam().name;
  ClipOptions options;
  options.codec = GetParam().codec;
  options.b_frames = GetParam().b_frames;
  options.frames = 53;
  write_clip(path, options);
  for (const int count : {4, 53}) {
    const auto frames = decode_video(path, count);
    ASSERT_TRUE(frames.has_value()) << frames.error().message;
    EXPECT_EQ(numbers(*frames), expected_numbers(53, count));
    EXPECT_EQ(frames->front().rgb.sizes(), (at::IntArrayRef{96, 160, 3}));
    EXPECT_EQ(frames->front().rgb.scalar_type(), at::kByte);
    for (std::size_t i = 0; i < frames->size(); ++i)
      EXPECT_NEAR((*frames)[i].seconds, expected_numbers(53, count)[i] / 10.0, 2e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Containers, DecodeVideo,
    ::testing::Values(Container{"a.mp4", "mpeg4", 2}, Container{"b.mp4", "libx264", 2},
                      Container{"c.mkv", "libx264", 3}, Container{"d.avi", "mpeg4", 0},
                      Container{"e.avi", "mpeg4", 2}, Container{"f.mp4", "libx264", 0},
                      Container{"g.webm", "libvpx-vp9", 0},
                      Container{"wrong_name.jpg.mp4", "mpeg4", 1}),
    [](const auto& info) { return std::string(1, info.param.name[0]); });

// Frames that are skipped over, and seeking, must not change a single pixel of those taken.
TEST(Decode, FewFramesAreTheSameBitsAsAllFrames) {
  const TemporaryFolder folder;
  const auto path = folder / "clip.mp4";
  ClipOptions options;
  options.codec = "libx264";
  options.b_frames = 3;
  options.gop = 16;
  options.frames = 60;
  write_clip(path, options);
  const auto all = decode_video(path, 60);
  ASSERT_TRUE(all.has_value()) << all.error().message;
  for (const int count : {1, 2, 7, 10}) {
    const auto some = decode_video(path, count);
    ASSERT_TRUE(some.has_value());
    const auto indices = uniform_indices(60, count);
    for (std::size_t i = 0; i < indices.size(); ++i)
      EXPECT_TRUE(at::equal((*some)[i].rgb, (*all)[static_cast<std::size_t>(indices[i])].rgb));
  }
}

TEST(Decode, FramesRepeatWhenThereAreTooFew) {
  const TemporaryFolder folder;
  ClipOptions options;
  options.frames = 3;
  write_clip(folder / "short.mp4", options);
  const auto frames = decode_video(folder / "short.mp4", 10);
  ASSERT_TRUE(frames.has_value()) << frames.error().message;
  EXPECT_EQ(numbers(*frames), (std::vector<int>{0, 0, 0, 1, 1, 1, 1, 2, 2, 2}));
}

// The frame rate of the header says nothing about where frames are.
TEST(Decode, UnevenTimesAreReportedAsTheyAre) {
  const TemporaryFolder folder;
  ClipOptions options;
  options.frames = 11;
  options.b_frames = 0;
  options.time = [](int i) { return i < 5 ? i : i * 10; };
  write_clip(folder / "uneven.mp4", options);
  const auto frames = decode_video(folder / "uneven.mp4", 11);
  ASSERT_TRUE(frames.has_value()) << frames.error().message;
  EXPECT_EQ(numbers(*frames), expected_numbers(11, 11));
  EXPECT_NEAR((*frames)[4].seconds, 0.4, 1e-3);
  EXPECT_NEAR((*frames)[5].seconds, 5.0, 1e-3);
  EXPECT_NEAR((*frames)[10].seconds, 10.0, 1e-3);
}

TEST(Decode, TurnsFramesUpright) {
  for (int turns = 1; turns <= 3; ++turns) {
    const TemporaryFolder folder;
    ClipOptions options;
    options.frames = 4;
    options.quarter_turns = turns;
    write_clip(folder / "turned.mp4", options);
    const auto frames = decode_video(folder / "turned.mp4", 2);
    ASSERT_TRUE(frames.has_value()) << frames.error().message;
    // The red square of the stored top left corner goes round with the picture.
    const auto& rgb = frames->front().rgb;
    const auto height = rgb.size(0), width = rgb.size(1);
    EXPECT_EQ(height, turns == 2 ? 96 : 160);
    const bool right = turns == 1 || turns == 2, bottom = turns == 2 || turns == 3;
    const auto corner = rgb[bottom ? height - 12 : 12][right ? width - 12 : 12];
    EXPECT_GT(corner[0].item<int>(), 150) << "turns " << turns;
    EXPECT_LT(corner[1].item<int>(), 100) << "turns " << turns;
  }
}

TEST(Decode, ConvertIsCalledOnceForEachDifferentFrame) {
  const TemporaryFolder folder;
  ClipOptions options;
  options.frames = 3;
  write_clip(folder / "short.mp4", options);
  int calls = 0;
  const auto frames = decode_video(folder / "short.mp4", 10, {}, [&](at::Tensor rgb) {
    ++calls;
    return rgb.select(2, 0).contiguous();
  });
  ASSERT_TRUE(frames.has_value());
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(frames->front().rgb.dim(), 2);
}

TEST(Decode, UniformIndicesRoundToTheNearest) {
  EXPECT_EQ(uniform_indices(300, 10),
            (std::vector<std::int64_t>{0, 33, 66, 100, 133, 166, 199, 233, 266, 299}));
  EXPECT_EQ(uniform_indices(4, 3), (std::vector<std::int64_t>{0, 2, 3}));  // 1.5 to the even 2
  EXPECT_EQ(uniform_indices(6, 3), (std::vector<std::int64_t>{0, 2, 5}));  // 2.5 to the even 2
  EXPECT_EQ(uniform_indices(100, 1), (std::vector<std::int64_t>{0}));
  EXPECT_EQ(uniform_indices(1, 4), (std::vector<std::int64_t>{0, 0, 0, 0}));
}

// Pictures ------------------------------------------------------------------------------------

TEST(Decode, Pictures) {
  const TemporaryFolder folder;
  const auto canvas = testing::two_squares();
  const auto truth =
      at::from_blob(const_cast<std::uint8_t*>(canvas.rgb.data()), {120, 200, 3}, at::kByte);
  write_picture(folder / "a.png", canvas, AV_PIX_FMT_RGB24);
  const auto png = decode_image(folder / "a.png");
  ASSERT_TRUE(png.has_value()) << png.error().message;
  EXPECT_TRUE(at::equal(*png, truth));

  write_picture(folder / "a.jpg", canvas, AV_PIX_FMT_YUVJ444P);
  const auto jpg = decode_image(folder / "a.jpg");
  ASSERT_TRUE(jpg.has_value()) << jpg.error().message;
  EXPECT_LT(jpg->to(at::kFloat).sub(truth.to(at::kFloat)).abs().mean().item<double>(), 3);

  // Content decides, not the name.
  std::filesystem::rename(folder / "a.jpg", folder / "b.png");
  EXPECT_TRUE(decode_image(folder / "b.png").has_value());
}

TEST(Decode, TransparentPartsBecomeWhite) {
  const TemporaryFolder folder;
  Canvas canvas(4, 4);
  canvas.fill(0, 0, 4, 4, {100, 50, 0});
  AVFrame* frame = testing::to_frame(canvas, AV_PIX_FMT_RGBA);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x)
      frame->data[0][y * frame->linesize[0] + x * 4 + 3] = x == 0 ? 0 : x == 1 ? 128 : 255;
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  AVCodecContext* context = avcodec_alloc_context3(codec);
  context->width = context->height = 4;
  context->pix_fmt = AV_PIX_FMT_RGBA;
  context->time_base = {1, 1};
  testing::must(avcodec_open2(context, codec, nullptr), "png");
  testing::must(avcodec_send_frame(context, frame), "png");
  AVPacket* packet = av_packet_alloc();
  testing::must(avcodec_receive_packet(context, packet), "png");
  write_text(folder / "alpha.png", std::string(reinterpret_cast<char*>(packet->data),
                                               static_cast<std::size_t>(packet->size)));
  av_packet_free(&packet);
  av_frame_free(&frame);
  avcodec_free_context(&context);

  const auto rgb = decode_image(folder / "alpha.png");
  ASSERT_TRUE(rgb.has_value()) << rgb.error().message;
  EXPECT_EQ((*rgb)[0][0][0].item<int>(), 255);
  EXPECT_EQ((*rgb)[0][1][1].item<int>(), (50 * 128 + 255 * 127 + 127) / 255);
  EXPECT_EQ((*rgb)[0][2][0].item<int>(), 100);
}

TEST(Decode, MasksAreWhatIsNotZero) {
  const TemporaryFolder folder;
  Canvas canvas(100, 50);
  canvas.fill(10, 5, 30, 25, {0, 0, 1});  // faint, and in one channel only
  write_picture(folder / "faint.png", canvas, AV_PIX_FMT_RGB24);
  const auto mask = decode_mask(folder / "faint.png");
  ASSERT_TRUE(mask.has_value()) << mask.error().message;
  EXPECT_EQ(mask->sizes(), (at::IntArrayRef{50, 100}));
  EXPECT_EQ(mask->sum().item<int>(), 20 * 20);
  EXPECT_EQ((*mask)[5][10].item<int>(), 1);
  EXPECT_EQ((*mask)[4][10].item<int>(), 0);

  const auto small = decode_mask(folder / "faint.png", 10, {});
  ASSERT_TRUE(small.has_value());
  EXPECT_EQ(small->sizes(), (at::IntArrayRef{10, 10}));
  EXPECT_EQ(small->sum().item<int>(), 2 * 4);

  Canvas gray(8, 8);
  gray.fill(0, 0, 4, 8, {255, 255, 255});
  write_picture(folder / "gray.png", gray, AV_PIX_FMT_GRAY8);
  EXPECT_EQ(decode_mask(folder / "gray.png")->sum().item<int>(), 32);
}

// Sound ---------------------------------------------------------------------------------------

// Amplitude of a frequency in a clip.
double strength(const at::Tensor& clip, double hertz) {
  const auto n = clip.size(0);
  const auto* x = clip.const_data_ptr<float>();
  double real = 0, imaginary = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double angle = 2 * 3.14159265358979323846 * hertz * static_cast<double>(i) / kSampleRate;
    real += x[i] * std::cos(angle);
    imaginary += x[i] * std::sin(angle);
  }
  return 2 * std::hypot(real, imaginary) / static_cast<double>(n);
}

struct Sound {
  const char* name;
  testing::SoundOptions options;
};

TEST(Decode, AnySoundBecomesMonoAt16kHz) {
  const TemporaryFolder folder;
  const std::vector<Sound> sounds = {
      {"a.wav", {}},
      {"b.wav", {"pcm_s16le", AV_SAMPLE_FMT_S16, 44'100, 2}},
      {"c.wav", {"pcm_s16le", AV_SAMPLE_FMT_S16, 8'000, 1}},
      {"d.mp3", {"libmp3lame", AV_SAMPLE_FMT_FLTP, 44'100, 2}},
      {"e.mp4", {"aac", AV_SAMPLE_FMT_FLTP, 48'000, 2}},
      {"f.flac", {"flac", AV_SAMPLE_FMT_S16, 22'050, 2}},
      {"g.wav", {"pcm_s16le", AV_SAMPLE_FMT_S16, 48'000, 6}},
  };
  for (const auto& [name, options] : sounds) {
    SCOPED_TRACE(name);
    // The first channel has a tone of 440 Hz, the second one of 1 kHz, others are silent.
    write_sound(
        folder / name, 3.0,
        [](double t, int channel) {
          return channel == 0 ? tone(t, 440) : channel == 1 ? tone(t, 1000) : 0.0;
        },
        options);
    const auto clip = decode_audio(folder / name, {AudioWindow::parts_of_second, 3, 0});
    ASSERT_TRUE(clip.has_value()) << clip.error().message;
    EXPECT_EQ(clip->scalar_type(), at::kFloat);
    EXPECT_NEAR(static_cast<double>(clip->size(0)), 48'000, 0.06 * kSampleRate);
    EXPECT_NEAR(strength(*clip, 440), 0.5 / options.channels, 0.03);
    EXPECT_NEAR(strength(*clip, 1000), options.channels > 1 ? 0.5 / options.channels : 0, 0.03);
  }
}

TEST(Decode, FirstSecondsReadsNoMoreThanItNeeds) {
  const TemporaryFolder folder;
  write_sound(folder / "long.wav", 20, [](double t, int) { return t < 4 ? tone(t, 500) : 0.0; });
  const auto clip = decode_audio(folder / "long.wav", {AudioWindow::first_seconds, 4, 0});
  ASSERT_TRUE(clip.has_value()) << clip.error().message;
  EXPECT_EQ(clip->size(0), 4 * kSampleRate);
  EXPECT_NEAR(strength(*clip, 500), 0.5, 0.01);
}

// The number of its second (from 1) as the value of every sample.
std::vector<float> seconds_clip(int seconds) {
  std::vector<float> clip;
  for (int i = 0; i < seconds * kSampleRate; ++i)
    clip.push_back(static_cast<float>(i / kSampleRate + 1));
  return clip;
}

TEST(Decode, WindowOfParts) {
  auto clip = seconds_clip(10);
  clip.resize(clip.size() + 7);
  const auto window = cut_window(clip, {AudioWindow::parts_of_second, 10, 0});
  EXPECT_EQ(window, seconds_clip(10));
  EXPECT_EQ(cut_window(seconds_clip(3), {AudioWindow::parts_of_second, 5, 0}).size(), 48'000U);
}

TEST(Decode, WindowOfTheFirstSecondsIsFilledWithSilence) {
  const auto window = cut_window(seconds_clip(2), {AudioWindow::first_seconds, 4, 0});
  ASSERT_EQ(window.size(), 4U * kSampleRate);
  EXPECT_EQ(window[2 * kSampleRate - 1], 2);
  EXPECT_EQ(window[2 * kSampleRate], 0);
  EXPECT_EQ(cut_window(seconds_clip(6), {AudioWindow::first_seconds, 4, 0}), seconds_clip(4));
}

TEST(Decode, CentredWindows) {
  const auto window = cut_window(seconds_clip(60), {AudioWindow::centred_windows, 10, 0});
  ASSERT_EQ(window.size(), 20U * kSampleRate);
  EXPECT_EQ(window[0], 0);  // the second before the clip
  EXPECT_EQ(window[kSampleRate], 1);
  for (int i = 1; i < 10; ++i) {
    const auto start = static_cast<std::size_t>(2 * i * kSampleRate);
    EXPECT_EQ(window[start], static_cast<float>(6 * i)) << i;  // [6i - 1, 6i)
    EXPECT_EQ(window[start + 2 * kSampleRate - 1], static_cast<float>(6 * i + 1)) << i;
  }
}

TEST(Decode, WindowAtTheFrameIndex) {
  for (int index = 0; index < 5; ++index) {
    const auto window = cut_window(seconds_clip(5), {AudioWindow::at_frame_index, 5, index});
    EXPECT_EQ(window, std::vector<float>(kSampleRate, static_cast<float>(index + 1)));
  }
  EXPECT_EQ(cut_window(seconds_clip(5), {AudioWindow::at_frame_index, 5, 9}),
            std::vector<float>(kSampleRate, 0.0F));
}

TEST(Decode, ShortSoundIsFilledToOneSecond) {
  for (const auto kind : {AudioWindow::parts_of_second, AudioWindow::first_seconds,
                          AudioWindow::centred_windows, AudioWindow::at_frame_index})
    EXPECT_GE(cut_window({0.5F, 0.5F}, {kind, 10, 0}).size(), 16'000U);
}

}  // namespace
}  // namespace crabcast::data
