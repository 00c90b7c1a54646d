// Real media files for tests, written with the FFmpeg libraries: clips whose frames carry their own
// number as a bar code, pictures, and tones.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/display.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <ATen/core/Tensor.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace crabcast::testing {

inline void must(int code, const char* what) {
  if (code < 0) throw std::runtime_error(std::string(what) + " failed: " + std::to_string(code));
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// Keeps the first `share` of a file.
inline void cut_off(const std::filesystem::path& path, double share) {
  const auto size = static_cast<double>(std::filesystem::file_size(path));
  std::filesystem::resize_file(path, static_cast<std::uintmax_t>(size * share));
}

// Writes one encoded track into one container.
class Encoder {
 public:
  Encoder(const std::filesystem::path& path, const char* codec_name) {
    av_log_set_level(AV_LOG_FATAL);  // encoders tell a lot
    std::filesystem::create_directories(path.parent_path());
    must(avformat_alloc_output_context2(&format_, nullptr, nullptr, path.c_str()), "container");
    const AVCodec* codec = avcodec_find_encoder_by_name(codec_name);
    if (codec == nullptr) throw std::runtime_error(std::string("no encoder ") + codec_name);
    context_ = avcodec_alloc_context3(codec);
    stream_ = avformat_new_stream(format_, nullptr);
    context_->thread_count = 1;
    if ((format_->oformat->flags & AVFMT_GLOBALHEADER) != 0)
      context_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    path_ = path.string();
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() {
    avcodec_free_context(&context_);
    if (format_ != nullptr) avio_closep(&format_->pb);
    avformat_free_context(format_);
  }
  AVCodecContext& codec() { return *context_; }
  AVStream& stream() { return *stream_; }
  // Of packets that have none from their encoder, in the encoder's time base. Without it a
  // container takes the last frame for one that is never shown.
  void set_duration(std::int64_t duration) { duration_ = duration; }

  void start(bool index_in_front = false) {
    must(avcodec_open2(context_, nullptr, nullptr), "encoder");
    must(avcodec_parameters_from_context(stream_->codecpar, context_), "parameters");
    stream_->time_base = context_->time_base;
    must(avio_open(&format_->pb, path_.c_str(), AVIO_FLAG_WRITE), "file");
    AVDictionary* settings = nullptr;
    if (index_in_front) av_dict_set(&settings, "movflags", "faststart", 0);
    must(avformat_write_header(format_, &settings), "header");
    av_dict_free(&settings);
  }
  void add(AVFrame* frame) {  // null: the end
    must(avcodec_send_frame(context_, frame), "encode");
    AVPacket* packet = av_packet_alloc();
    while (avcodec_receive_packet(context_, packet) == 0) {
      if (packet->duration == 0) packet->duration = duration_;
      av_packet_rescale_ts(packet, context_->time_base, stream_->time_base);
      packet->stream_index = 0;
      must(av_interleaved_write_frame(format_, packet), "write");
    }
    av_packet_free(&packet);
  }
  void finish() {
    add(nullptr);
    must(av_write_trailer(format_), "trailer");
  }

 private:
  AVFormatContext* format_ = nullptr;
  AVCodecContext* context_ = nullptr;
  AVStream* stream_ = nullptr;
  std::string path_;
  std::int64_t duration_ = 0;
};

// RGB pixels of a picture: row by row.
struct Canvas {
  int width, height;
  std::vector<std::uint8_t> rgb;
  Canvas(int w, int h) : width(w), height(h), rgb(static_cast<std::size_t>(w * h * 3)) {}
  std::uint8_t* at(int x, int y) { return rgb.data() + (y * width + x) * 3; }
  void fill(int x0, int y0, int x1, int y1, std::array<int, 3> colour) {
    for (int y = y0; y < y1; ++y)
      for (int x = x0; x < x1; ++x)
        for (int c = 0; c < 3; ++c) at(x, y)[c] = static_cast<std::uint8_t>(colour[c]);
  }
};

inline AVFrame* to_frame(const Canvas& canvas, AVPixelFormat format) {
  AVFrame* frame = av_frame_alloc();
  frame->width = canvas.width;
  frame->height = canvas.height;
  frame->format = format;
  must(av_frame_get_buffer(frame, 0), "frame");
  SwsContext* sws = sws_getContext(canvas.width, canvas.height, AV_PIX_FMT_RGB24, canvas.width,
                                   canvas.height, format, SWS_BICUBIC, nullptr, nullptr, nullptr);
  const std::uint8_t* planes[4] = {canvas.rgb.data(), nullptr, nullptr, nullptr};
  const int strides[4] = {canvas.width * 3, 0, 0, 0};
  sws_scale(sws, planes, strides, 0, canvas.height, frame->data, frame->linesize);
  sws_freeContext(sws);
  return frame;
}

inline constexpr int kBits = 10;
inline constexpr int kBar = 16;  // pixels; also a macroblock

// A picture that says its number in black and white bars, with a red square at the top left and
// noise, which no encoder can make small, at the bottom.
inline Canvas numbered(int number) {
  Canvas canvas(kBits * kBar, 96);
  for (int bit = 0; bit < kBits; ++bit) {
    const int level = (number >> bit & 1) != 0 ? 235 : 20;
    canvas.fill(bit * kBar, 0, (bit + 1) * kBar, 96, {level, level, level});
  }
  canvas.fill(0, 0, 32, 32, {220, 30, 30});
  auto noise = static_cast<std::uint32_t>(number) * 2654435761U + 1;
  for (int y = 80; y < 96; ++y)
    for (int x = 0; x < canvas.width; ++x)
      for (int c = 0; c < 3; ++c) {
        noise = noise * 1664525U + 1013904223U;
        canvas.at(x, y)[c] = static_cast<std::uint8_t>(noise >> 24);
      }
  return canvas;
}

// The number of an upright decoded frame, uint8 [H, W, 3].
inline int number_in(const at::Tensor& rgb) {
  int number = 0;
  for (int bit = 0; bit < kBits; ++bit)
    if (rgb[64][bit * kBar + kBar / 2][1].item<int>() > 128) number |= 1 << bit;
  return number;
}

inline Canvas two_squares() {
  Canvas canvas(200, 120);
  canvas.fill(0, 0, 200, 120, {40, 90, 200});
  canvas.fill(20, 10, 60, 50, {250, 250, 250});
  canvas.fill(100, 60, 180, 110, {200, 20, 20});
  return canvas;
}

struct ClipOptions {
  const char* codec = "mpeg4";
  int frames = 50;
  int fps = 10;
  int gop = 12;
  int b_frames = 2;
  AVPixelFormat format = AV_PIX_FMT_YUV420P;
  std::string settings;         // of the encoder, as "open-gop=1:interlaced=1" for libx264
  int quarter_turns = 0;        // clockwise turn that a player must make
  bool index_in_front = false;  // of an mp4 file, as files for streaming have it
  std::function<std::int64_t(int)> time = [](int i) { return i; };  // in frames
};

inline void write_clip(const std::filesystem::path& path, const ClipOptions& options = {}) {
  Encoder encoder(path, options.codec);
  auto& codec = encoder.codec();
  codec.width = kBits * kBar;
  codec.height = 96;
  codec.pix_fmt = options.format;
  codec.time_base = {1, options.fps};
  codec.framerate = {options.fps, 1};
  codec.gop_size = options.gop;
  codec.max_b_frames = options.b_frames;
  codec.bit_rate = 2'000'000;
  if (options.quarter_turns != 0) {
    auto* matrix = reinterpret_cast<std::int32_t*>(
        av_stream_new_side_data(&encoder.stream(), AV_PKT_DATA_DISPLAYMATRIX, 9 * 4));
    av_display_rotation_set(matrix, 90.0 * options.quarter_turns);
  }
  const std::string x26 = std::string(options.codec).substr(3);  // "libx264": "x264"
  if (!options.settings.empty())
    must(av_opt_set(codec.priv_data, (x26 + "-params").c_str(), options.settings.c_str(), 0),
         "settings");
  encoder.set_duration(1);
  encoder.start(options.index_in_front);
  for (int i = 0; i < options.frames; ++i) {
    AVFrame* frame = to_frame(numbered(i), options.format);
    frame->pts = options.time(i);
    encoder.add(frame);
    av_frame_free(&frame);
  }
  encoder.finish();
}

// A picture file; the codec by the name's end.
inline void write_picture(const std::filesystem::path& path, const Canvas& canvas,
                          AVPixelFormat format) {
  const bool jpeg = path.extension() == ".jpg";
  const AVCodec* codec = avcodec_find_encoder(jpeg ? AV_CODEC_ID_MJPEG : AV_CODEC_ID_PNG);
  AVCodecContext* context = avcodec_alloc_context3(codec);
  context->width = canvas.width;
  context->height = canvas.height;
  context->pix_fmt = format;
  context->color_range = jpeg ? AVCOL_RANGE_JPEG : AVCOL_RANGE_UNSPECIFIED;
  context->time_base = {1, 1};
  context->flags |= AV_CODEC_FLAG_QSCALE;
  context->global_quality = 2 * FF_QP2LAMBDA;
  must(avcodec_open2(context, codec, nullptr), "picture encoder");
  AVFrame* frame = to_frame(canvas, format);
  frame->quality = context->global_quality;
  must(avcodec_send_frame(context, frame), "picture");
  AVPacket* packet = av_packet_alloc();
  must(avcodec_receive_packet(context, packet), "picture");
  write_text(path, std::string(reinterpret_cast<const char*>(packet->data),
                               static_cast<std::size_t>(packet->size)));
  av_packet_free(&packet);
  av_frame_free(&frame);
  avcodec_free_context(&context);
}

struct SoundOptions {
  const char* codec = "pcm_s16le";
  AVSampleFormat format = AV_SAMPLE_FMT_S16;
  int rate = 16'000;
  int channels = 1;
};

// `value` at (seconds, channel), in [-1, 1]; integer formats are interleaved, floats planar.
inline void write_sound(const std::filesystem::path& path, double seconds,
                        const std::function<double(double, int)>& value,
                        const SoundOptions& options = {}) {
  Encoder encoder(path, options.codec);
  auto& codec = encoder.codec();
  codec.sample_fmt = options.format;
  codec.sample_rate = options.rate;
  codec.time_base = {1, options.rate};
  codec.bit_rate = 128'000;
  av_channel_layout_default(&codec.ch_layout, options.channels);
  encoder.start();
  const int block = codec.frame_size > 0 ? codec.frame_size : 1024;
  const auto total = static_cast<std::int64_t>(std::llround(seconds * options.rate));
  for (std::int64_t start = 0; start < total; start += block) {
    AVFrame* frame = av_frame_alloc();
    frame->nb_samples = static_cast<int>(std::min<std::int64_t>(block, total - start));
    frame->format = options.format;
    frame->sample_rate = options.rate;
    frame->pts = start;
    must(av_channel_layout_copy(&frame->ch_layout, &codec.ch_layout), "layout");
    must(av_frame_get_buffer(frame, 0), "sound frame");
    for (int i = 0; i < frame->nb_samples; ++i)
      for (int channel = 0; channel < options.channels; ++channel) {
        const double v = value(static_cast<double>(start + i) / options.rate, channel);
        if (options.format == AV_SAMPLE_FMT_S16)
          reinterpret_cast<std::int16_t*>(frame->data[0])[i * options.channels + channel] =
              static_cast<std::int16_t>(std::lround(v * 32767));
        else
          reinterpret_cast<float*>(frame->data[channel])[i] = static_cast<float>(v);
      }
    encoder.add(frame);
    av_frame_free(&frame);
  }
  encoder.finish();
}

inline double tone(double seconds, double hertz) {
  return 0.5 * std::sin(2 * 3.14159265358979323846 * hertz * seconds);
}

}  // namespace crabcast::testing
