// Streams that are unusual, but good: what comes out is what a player would show.
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "data/decode.h"
#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using testing::Canvas;
using testing::ClipOptions;
using testing::must;
using testing::number_in;
using testing::TemporaryFolder;
using testing::tone;
using testing::write_clip;
using testing::write_sound;
using testing::write_text;

// Copies the tracks of a file into another one, with a picture as its cover.
void add_cover(const std::filesystem::path& from, const std::filesystem::path& to) {
  AVFormatContext *in = nullptr, *out = nullptr;
  must(avformat_open_input(&in, from.c_str(), nullptr, nullptr), "open");
  must(avformat_find_stream_info(in, nullptr), "streams");
  must(avformat_alloc_output_context2(&out, nullptr, nullptr, to.c_str()), "container");
  AVStream* track = avformat_new_stream(out, nullptr);
  must(avcodec_parameters_copy(track->codecpar, in->streams[0]->codecpar), "parameters");
  track->codecpar->codec_tag = 0;
  track->time_base = in->streams[0]->time_base;
  AVStream* cover = avformat_new_stream(out, nullptr);
  cover->disposition = AV_DISPOSITION_ATTACHED_PIC;  // and nothing else, or it is a track
  cover->codecpar->codec_type = AVMEDIA_TYPE_VIDEO;
  cover->codecpar->codec_id = AV_CODEC_ID_PNG;
  cover->codecpar->width = 200;
  cover->codecpar->height = 120;
  const TemporaryFolder folder;
  testing::write_picture(folder / "cover.png", testing::two_squares(), AV_PIX_FMT_RGB24);
  std::ifstream file(folder / "cover.png", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});

  must(avio_open(&out->pb, to.c_str(), AVIO_FLAG_WRITE), "file");
  must(avformat_write_header(out, nullptr), "header");
  AVPacket* packet = av_packet_alloc();
  must(av_new_packet(packet, static_cast<int>(bytes.size())), "packet");
  std::copy(bytes.begin(), bytes.end(), packet->data);
  packet->stream_index = 1;
  packet->flags |= AV_PKT_FLAG_KEY;
  must(av_interleaved_write_frame(out, packet), "cover");
  while (av_read_frame(in, packet) >= 0) {
    av_packet_rescale_ts(packet, in->streams[0]->time_base, track->time_base);
    packet->stream_index = 0;
    packet->pos = -1;
    must(av_interleaved_write_frame(out, packet), "write");
  }
  must(av_write_trailer(out), "trailer");
  av_packet_free(&packet);
  avio_closep(&out->pb);
  avformat_free_context(out);
  avformat_close_input(&in);
}

TEST(DecodeOdd, ACoverIsNoVideo) {
  const TemporaryFolder folder;
  ClipOptions clip;
  clip.codec = "libx264";
  clip.frames = 9;
  write_clip(folder / "film.mp4", clip);
  add_cover(folder / "film.mp4", folder / "with_cover.mp4");
  const auto frames = decode_video(folder / "with_cover.mp4", 9);
  ASSERT_TRUE(frames.has_value()) << frames.error().message;
  for (int i = 0; i < 9; ++i) EXPECT_EQ(number_in((*frames)[static_cast<std::size_t>(i)].rgb), i);

  write_sound(folder / "song.mp3", 2, [](double t, int) { return tone(t, 440); },
              {"libmp3lame", AV_SAMPLE_FMT_FLTP, 16'000, 1});
  add_cover(folder / "song.mp3", folder / "with_cover.mp3");
  const auto none = decode_video(folder / "with_cover.mp3", 4);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().message,
            (folder / "with_cover.mp3").string() + ": demux: has no video track");
  const auto sound = decode_audio(folder / "with_cover.mp3", {AudioWindow::first_seconds, 2, 0});
  ASSERT_TRUE(sound.has_value()) << sound.error().message;
  EXPECT_EQ(sound->size(0), 2 * kSampleRate);
}

TEST(DecodeOdd, OneFrameAndNone) {
  const TemporaryFolder folder;
  ClipOptions clip;
  clip.codec = "libx264";
  clip.frames = 1;
  write_clip(folder / "one.mp4", clip);
  const auto one = decode_video(folder / "one.mp4", 10);
  ASSERT_TRUE(one.has_value()) << one.error().message;
  ASSERT_EQ(one->size(), 10U);
  EXPECT_TRUE(at::equal(one->front().rgb, one->back().rgb));
  EXPECT_EQ(number_in(one->front().rgb), 0);

  clip.frames = 0;
  write_clip(folder / "none.mp4", clip);
  const auto none = decode_video(folder / "none.mp4", 10);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, Errc::data_error);

  write_sound(folder / "none.wav", 0, [](double, int) { return 0.0; });
  const auto silent = decode_audio(folder / "none.wav", {});
  ASSERT_FALSE(silent.has_value());
  EXPECT_EQ(silent.error().code, Errc::data_error);
}

// Ten bits, other subsampling and interlaced fields show the same picture as eight bits.
TEST(DecodeOdd, PixelFormats) {
  const TemporaryFolder folder;
  struct Kind {
    const char* name;
    AVPixelFormat format;
    const char* settings;
  };
  ClipOptions clip;
  clip.codec = "libx264";
  clip.frames = 24;
  write_clip(folder / "plain.mp4", clip);
  const auto plain = decode_video(folder / "plain.mp4", 6);
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  for (const Kind& kind :
       {Kind{"ten.mp4", AV_PIX_FMT_YUV420P10, ""}, Kind{"full.mp4", AV_PIX_FMT_YUV444P, ""},
        Kind{"half.mp4", AV_PIX_FMT_YUV422P10, ""},
        Kind{"fields.mp4", AV_PIX_FMT_YUV420P, "interlaced=1"}}) {
    SCOPED_TRACE(kind.name);
    clip.format = kind.format;
    clip.settings = kind.settings;
    write_clip(folder / kind.name, clip);
    const auto frames = decode_video(folder / kind.name, 6);
    ASSERT_TRUE(frames.has_value()) << frames.error().message;
    for (std::size_t i = 0; i < frames->size(); ++i) {
      EXPECT_EQ(number_in((*frames)[i].rgb), number_in((*plain)[i].rgb));
      // Above the noise at the bottom.
      const auto a = (*frames)[i].rgb.narrow(0, 0, 76).to(at::kFloat);
      const auto b = (*plain)[i].rgb.narrow(0, 0, 76).to(at::kFloat);
      EXPECT_LT(a.sub(b).abs().mean().item<double>(), 6);
    }
  }
}

// 16 x 16 pixels as a printer stores them, inverted, as image programs write it: left red, right
// cyan.
TEST(DecodeOdd, ACmykPicture) {
  constexpr std::uint8_t kJpeg[] = {
      0xFF, 0xD8, 0xFF, 0xEE, 0x00, 0x0E, 0x41, 0x64, 0x6F, 0x62, 0x65, 0x00, 0x64, 0x00, 0x00,
      0x00, 0x00, 0x00, 0xFF, 0xDB, 0x00, 0x43, 0x00, 0x03, 0x02, 0x02, 0x03, 0x02, 0x02, 0x03,
      0x03, 0x03, 0x03, 0x04, 0x03, 0x03, 0x04, 0x05, 0x08, 0x05, 0x05, 0x04, 0x04, 0x05, 0x0A,
      0x07, 0x07, 0x06, 0x08, 0x0C, 0x0A, 0x0C, 0x0C, 0x0B, 0x0A, 0x0B, 0x0B, 0x0D, 0x0E, 0x12,
      0x10, 0x0D, 0x0E, 0x11, 0x0E, 0x0B, 0x0B, 0x10, 0x16, 0x10, 0x11, 0x13, 0x14, 0x15, 0x15,
      0x15, 0x0C, 0x0F, 0x17, 0x18, 0x16, 0x14, 0x18, 0x12, 0x14, 0x15, 0x14, 0xFF, 0xC0, 0x00,
      0x14, 0x08, 0x00, 0x10, 0x00, 0x10, 0x04, 0x43, 0x11, 0x00, 0x4D, 0x11, 0x00, 0x59, 0x11,
      0x00, 0x4B, 0x11, 0x00, 0xFF, 0xC4, 0x00, 0x16, 0x00, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0A, 0x09, 0x00, 0xFF, 0xC4,
      0x00, 0x14, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xDA, 0x00, 0x0E, 0x04, 0x43, 0x00, 0x4D, 0x00, 0x59,
      0x00, 0x4B, 0x00, 0x00, 0x3F, 0x00, 0xAA, 0x69, 0x54, 0x95, 0x4A, 0xA6, 0x2A, 0xE5, 0x50,
      0x55, 0x0C, 0x55, 0x02, 0xAE, 0x2A, 0xEC, 0x2A, 0xE5, 0x50, 0x55, 0x0C, 0xFF, 0xD9,
  };
  const TemporaryFolder folder;
  write_text(folder / "cmyk.jpg", std::string(std::begin(kJpeg), std::end(kJpeg)));
  const auto rgb = decode_image(folder / "cmyk.jpg");
  ASSERT_TRUE(rgb.has_value()) << rgb.error().message;
  const auto pixel = [&](int x, int channel) { return (*rgb)[3][x][channel].item<int>(); };
  EXPECT_GT(pixel(3, 0), 245);
  EXPECT_LT(pixel(3, 1), 10);
  EXPECT_LT(pixel(3, 2), 10);
  EXPECT_LT(pixel(12, 0), 10);
  EXPECT_GT(pixel(12, 1), 245);
  EXPECT_GT(pixel(12, 2), 245);
}

}  // namespace
}  // namespace crabcast::data
