// Frames that are sought for are, bit for bit, those of a decoder that was given every packet of
// the file, whatever the encoder did: B-frames, spacing of key frames, open groups of pictures,
// uneven times, rotation.
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rot90.h>
#include <gtest/gtest.h>

#include <random>

#include "data/decode.h"
#include "tests/data/media_fixture.h"

// libx265, which encodes two of the clips, never gives back one table for each depth of bits.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:x265_malloc\n";
}

namespace crabcast::data {
namespace {

using testing::ClipOptions;
using testing::must;
using testing::TemporaryFolder;
using testing::write_clip;

at::Tensor rgb_of(const AVFrame& frame) {
  SwsContext* sws = sws_getContext(
      frame.width, frame.height, static_cast<AVPixelFormat>(frame.format), frame.width,
      frame.height, AV_PIX_FMT_RGB24, SWS_BICUBIC | SWS_ACCURATE_RND, nullptr, nullptr, nullptr);
  const int stride = frame.width * 3 + 64;
  std::vector<std::uint8_t> rows(static_cast<std::size_t>(stride * (frame.height + 1)));
  std::uint8_t* planes[4] = {rows.data(), nullptr, nullptr, nullptr};
  const int strides[4] = {stride, 0, 0, 0};
  sws_scale(sws, frame.data, frame.linesize, 0, frame.height, planes, strides);
  sws_freeContext(sws);
  return at::from_blob(rows.data(), {frame.height, stride}, at::kByte)
      .narrow(1, 0, frame.width * 3)
      .reshape({frame.height, frame.width, 3})
      .clone();
}

// Every frame of a file in the order of presentation: no seek, nothing left out.
std::vector<at::Tensor> all_frames(const std::filesystem::path& path) {
  AVFormatContext* format = nullptr;
  must(avformat_open_input(&format, path.c_str(), nullptr, nullptr), "open");
  must(avformat_find_stream_info(format, nullptr), "streams");
  const int track = av_find_best_stream(format, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  const auto& parameters = *format->streams[track]->codecpar;
  const AVCodec* codec = avcodec_find_decoder(parameters.codec_id);
  AVCodecContext* context = avcodec_alloc_context3(codec);
  must(avcodec_parameters_to_context(context, &parameters), "parameters");
  context->thread_count = 1;
  must(avcodec_open2(context, codec, nullptr), "decoder");
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  std::vector<at::Tensor> frames;
  for (bool more = true; more;) {
    more = av_read_frame(format, packet) >= 0;
    if (more && packet->stream_index != track) continue;
    must(avcodec_send_packet(context, more ? packet : nullptr), "decode");
    while (avcodec_receive_frame(context, frame) == 0) frames.push_back(rgb_of(*frame));
    av_packet_unref(packet);
  }
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&context);
  avformat_close_input(&format);
  return frames;
}

void expect_exact(const std::filesystem::path& path, int turns) {
  const auto all = all_frames(path);
  ASSERT_FALSE(all.empty());
  const auto total = static_cast<std::int64_t>(all.size());
  for (const int count : {1, 3, 10, static_cast<int>(total)}) {
    SCOPED_TRACE(count);
    const auto frames = decode_video(path, count);
    ASSERT_TRUE(frames.has_value()) << frames.error().message;
    const auto indices = uniform_indices(total, count);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const auto& whole = all[static_cast<std::size_t>(indices[i])];
      EXPECT_TRUE(at::equal((*frames)[i].rgb, at::rot90(whole, -turns, {0, 1})))
          << "frame " << indices[i];
    }
  }
}

TEST(DecodeExact, RandomClips) {
  constexpr unsigned kSeed = 20260;
  std::mt19937 random(kSeed);
  const auto one_of = [&](auto... values) {
    const std::common_type_t<decltype(values)...> all[] = {values...};
    return all[random() % sizeof...(values)];
  };
  for (int round = 0; round < 20; ++round) {
    const TemporaryFolder folder;
    ClipOptions options;
    options.codec = one_of("libx264", "libx264", "libx264", "mpeg4");
    options.frames = static_cast<int>(1 + random() % 50);
    options.gop = one_of(1, 2, 5, 12, 30, 250);
    options.b_frames = one_of(0, 1, 2, 3, 5);
    options.quarter_turns = one_of(0, 0, 0, 1, 2, 3);
    const bool x264 = options.codec == std::string("libx264");
    if (x264) {
      options.settings = std::string("open-gop=") + one_of("0", "1") +
                         ":b-pyramid=" + one_of("none", "strict", "normal") +
                         ":ref=" + one_of("1", "4") + ":scenecut=" + one_of("0", "40");
      if (random() % 4 == 0) options.settings += ":interlaced=1";
    }
    if (random() % 3 == 0)
      options.time = [step = 1 + random() % 4](int i) {
        return static_cast<std::int64_t>(i) * 5 + static_cast<std::int64_t>(i / 3 * step);
      };
    const bool uneven = options.time(2) != 2;
    const std::string name = std::string("clip.") + (x264 ? one_of("mp4", "mkv") : "mp4");
    SCOPED_TRACE("seed " + std::to_string(kSeed) + ", round " + std::to_string(round) + ": " +
                 options.codec + " " + name + ", " + std::to_string(options.frames) +
                 " frames, key frames every " + std::to_string(options.gop) + ", " +
                 std::to_string(options.b_frames) + " B, turned " +
                 std::to_string(options.quarter_turns) + (uneven ? ", uneven " : " ") +
                 options.settings);
    write_clip(folder / name, options);
    // A Matroska file says nothing of turns here.
    expect_exact(folder / name, name == "clip.mkv" ? 0 : options.quarter_turns);
  }
}

// What a codec refers to differs; each has its own way to leave frames out.
TEST(DecodeExact, OtherCodecs) {
  struct Clip {
    const char* name;
    const char* codec;
    AVPixelFormat format;
    const char* settings;
  };
  for (const Clip& clip :
       {Clip{"a.mp4", "libx265", AV_PIX_FMT_YUV420P, "open-gop=1:keyint=12:log-level=none"},
        Clip{"b.mkv", "libx265", AV_PIX_FMT_YUV420P10, "log-level=none"},
        Clip{"c.mp4", "libx264", AV_PIX_FMT_YUV420P10, ""},
        Clip{"d.mp4", "libx264", AV_PIX_FMT_YUV444P, ""},
        Clip{"e.webm", "libvpx-vp9", AV_PIX_FMT_YUV420P, ""},
        Clip{"f.avi", "mpeg4", AV_PIX_FMT_YUV420P, ""},
        Clip{"g.avi", "mjpeg", AV_PIX_FMT_YUVJ420P, ""},
        Clip{"h.mpg", "mpeg2video", AV_PIX_FMT_YUV420P, ""},
        Clip{"i.ts", "libx264", AV_PIX_FMT_YUV420P, "open-gop=1"}}) {
    if (avcodec_find_encoder_by_name(clip.codec) == nullptr) continue;
    SCOPED_TRACE(clip.name);
    const TemporaryFolder folder;
    ClipOptions options;
    options.codec = clip.codec;
    options.format = clip.format;
    options.settings = clip.settings;
    options.fps = 25;
    options.b_frames = std::string(clip.codec) == "mjpeg" ? 0 : 2;
    write_clip(folder / clip.name, options);
    expect_exact(folder / clip.name, 0);
  }
}

}  // namespace
}  // namespace crabcast::data
