#include "data/media_encode.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
}

namespace crabcast::data {
namespace {

struct FreeCodec {
  void operator()(AVCodecContext* codec) const { avcodec_free_context(&codec); }
};
struct FreeFrame {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
struct FreePacket {
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
};
using Codec = std::unique_ptr<AVCodecContext, FreeCodec>;
using Frame = std::unique_ptr<AVFrame, FreeFrame>;
using Packet = std::unique_ptr<AVPacket, FreePacket>;

tl::unexpected<Error> av_failure(int code, const std::string& stage) {
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  av_strerror(code, text.data(), text.size());
  return fail(code == AVERROR(ENOMEM) ? Errc::resource_exhausted : Errc::internal,
              "encoding media, " + stage + ": " + text.data());
}

#define CRABCAST_AV(expression, stage)                                                       \
  do {                                                                                       \
    if (const int av_code_ = (expression); av_code_ < 0) return av_failure(av_code_, stage); \
  } while (false)

// An encoder that is chosen but not opened yet.
Result<Codec> make_codec(const std::vector<std::string>& names) {
  std::string tried;
  for (const std::string& name : names) {
    if (const AVCodec* found = avcodec_find_encoder_by_name(name.c_str())) {
      Codec codec(avcodec_alloc_context3(found));
      if (!codec) return fail(Errc::resource_exhausted, "no memory for the encoder " + name);
      codec->thread_count = 1;
      codec->flags |= AV_CODEC_FLAG_BITEXACT;
      // Encoders tell their statistics; what matters comes back as an error code.
      codec->log_level_offset = AV_LOG_DEBUG;
      return codec;
    }
    tried += (tried.empty() ? "" : ", ") + name;
  }
  return fail(Errc::unsupported, "the installed FFmpeg has none of the encoders " + tried +
                                     "; install Debian's libavcodec");
}

Status open_codec(AVCodecContext* codec) {
  const std::string name = codec->codec->name;  // forgotten when opening fails
  CRABCAST_AV(avcodec_open2(codec, codec->codec, nullptr), "opening " + name);
  return {};
}

// Sends a frame (null: the end) and hands every packet that is ready to `take`.
template <class Take>
Status encode(AVCodecContext* codec, const AVFrame* frame, const Take& take) {
  const std::string name = codec->codec->name;
  CRABCAST_AV(avcodec_send_frame(codec, frame), name);
  const Packet packet(av_packet_alloc());
  if (!packet) return fail(Errc::resource_exhausted, "no memory for a packet");
  for (;;) {
    const int code = avcodec_receive_packet(codec, packet.get());
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return {};
    CRABCAST_AV(code, name);
    CRABCAST_TRY(take(packet.get()));
  }
}

Result<Frame> make_frame() {
  Frame frame(av_frame_alloc());
  if (!frame) return fail(Errc::resource_exhausted, "no memory for a frame");
  return frame;
}

// A file in memory, as FFmpeg writes one: containers go back and fill in what they know at the end.
class MemoryFile {
 public:
  MemoryFile() = default;
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() {
    if (io_ == nullptr) return;
    av_freep(static_cast<void*>(&io_->buffer));
    avio_context_free(&io_);
  }

  Status open() {
    constexpr int kBlock = 1 << 16;
    auto* block = static_cast<unsigned char*>(av_malloc(kBlock));
    if (block != nullptr)
      io_ = avio_alloc_context(block, kBlock, 1, this, nullptr, &MemoryFile::write,
                               &MemoryFile::seek);
    if (io_ != nullptr) return {};
    av_free(block);
    return fail(Errc::resource_exhausted, "no memory for a file");
  }
  [[nodiscard]] AVIOContext* io() const { return io_; }
  Bytes take() {
    avio_flush(io_);
    return std::move(bytes_);
  }

 private:
  static int write(void* self, std::uint8_t* data, int size) {
    auto& file = *static_cast<MemoryFile*>(self);
    const auto count = static_cast<std::size_t>(size);
    try {
      if (file.at_ + count > file.bytes_.size()) file.bytes_.resize(file.at_ + count);
    } catch (const std::bad_alloc&) {
      return AVERROR(ENOMEM);
    }
    std::memcpy(file.bytes_.data() + file.at_, data, count);
    file.at_ += count;
    return size;
  }
  static std::int64_t seek(void* self, std::int64_t offset, int whence) {
    auto& file = *static_cast<MemoryFile*>(self);
    const auto end = static_cast<std::int64_t>(file.bytes_.size());
    if (whence == AVSEEK_SIZE) return end;
    const std::int64_t from = whence == SEEK_END   ? end
                              : whence == SEEK_CUR ? static_cast<std::int64_t>(file.at_)
                                                   : 0;
    if (from + offset < 0) return AVERROR(EINVAL);
    file.at_ = static_cast<std::size_t>(from + offset);
    return from + offset;
  }

  AVIOContext* io_ = nullptr;
  Bytes bytes_;
  std::size_t at_ = 0;
};

// One stream into one container in memory.
class Muxer {
 public:
  Muxer() = default;
  Muxer(const Muxer&) = delete;
  Muxer& operator=(const Muxer&) = delete;
  ~Muxer() { avformat_free_context(context_); }

  // Before the encoder is opened: some containers want headers out of the packets.
  Status open(const std::string& container, AVCodecContext* codec) {
    const AVOutputFormat* format = av_guess_format(container.c_str(), nullptr, nullptr);
    if (format == nullptr)
      return fail(Errc::unsupported, "the installed FFmpeg cannot write " + container + " files");
    CRABCAST_AV(avformat_alloc_output_context2(&context_, format, nullptr, nullptr),
                "container " + container);
    context_->flags |= AVFMT_FLAG_BITEXACT;
    if ((context_->oformat->flags & AVFMT_GLOBALHEADER) != 0)
      codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    return {};
  }
  Status start(const AVCodecContext* codec) {
    stream_ = avformat_new_stream(context_, nullptr);
    if (stream_ == nullptr) return fail(Errc::resource_exhausted, "no memory for a stream");
    stream_->time_base = codec->time_base;
    stream_->avg_frame_rate = codec->framerate;
    codec_time_base_ = codec->time_base;
    CRABCAST_AV(avcodec_parameters_from_context(stream_->codecpar, codec), "stream parameters");
    CRABCAST_TRY(file_.open());
    context_->pb = file_.io();
    CRABCAST_AV(avformat_write_header(context_, nullptr), "header");
    return {};
  }
  Status write(AVPacket* packet) {
    packet->stream_index = stream_->index;
    av_packet_rescale_ts(packet, codec_time_base_, stream_->time_base);
    CRABCAST_AV(av_interleaved_write_frame(context_, packet), "packet");
    return {};
  }
  Result<Bytes> finish() {
    CRABCAST_AV(av_write_trailer(context_), "trailer");
    return file_.take();
  }

 private:
  MemoryFile file_;
  AVFormatContext* context_ = nullptr;
  AVStream* stream_ = nullptr;
  AVRational codec_time_base_{};
};

// RGB to planar YUV, a quarter of the colour samples (BT.601). Whole numbers only.
// `full`: 0 to 255 (JPEG), else 16 to 235 (video).
void to_yuv420(const Canvas& canvas, AVFrame* frame, bool full) {
  const int width = canvas.width(), height = canvas.height();
  const std::uint8_t* rgb = canvas.pixels().data();
  const std::array<int, 3> luma = full ? std::array{77, 150, 29} : std::array{66, 129, 25};
  const std::array<int, 3> blue = full ? std::array{-43, -85, 128} : std::array{-38, -74, 112};
  const std::array<int, 3> red = full ? std::array{128, -107, -21} : std::array{112, -94, -18};
  const int black = full ? 0 : 16;
  const auto level = [](const std::array<int, 3>& k, int r, int g, int b, int shift) {
    return (k[0] * r + k[1] * g + k[2] * b + (1 << (shift - 1))) >> shift;
  };
  for (int y = 0; y < height; y += 2) {
    const std::array rows = {rgb + std::ptrdiff_t{3} * y * width,
                             rgb + std::ptrdiff_t{3} * (y + 1) * width};
    for (int x = 0; x < width; x += 2) {
      int r = 0, g = 0, b = 0;
      for (int dy = 0; dy < 2; ++dy)
        for (int dx = 0; dx < 2; ++dx) {
          const std::uint8_t* p = rows[static_cast<std::size_t>(dy)] + std::ptrdiff_t{3} * (x + dx);
          r += p[0];
          g += p[1];
          b += p[2];
          frame->data[0][(y + dy) * frame->linesize[0] + x + dx] =
              static_cast<std::uint8_t>(level(luma, p[0], p[1], p[2], 8) + black);
        }
      frame->data[1][y / 2 * frame->linesize[1] + x / 2] =
          static_cast<std::uint8_t>(std::clamp(level(blue, r, g, b, 10) + 128, 0, 255));
      frame->data[2][y / 2 * frame->linesize[2] + x / 2] =
          static_cast<std::uint8_t>(std::clamp(level(red, r, g, b, 10) + 128, 0, 255));
    }
  }
}

Status check_size(int width, int height) {
  if (width <= 0 || height <= 0 || width % 2 != 0 || height % 2 != 0)
    return fail(Errc::invalid_argument, "a picture of " + std::to_string(width) + " x " +
                                            std::to_string(height) +
                                            " cannot be encoded; both sides must be even");
  return {};
}

// A single picture: what the encoder gives is the file.
Result<Bytes> encode_picture(AVCodecContext* codec, const AVFrame* frame) {
  Bytes out;
  const auto take = [&](const AVPacket* packet) -> Status {
    out.insert(out.end(), packet->data, packet->data + packet->size);
    return {};
  };
  CRABCAST_TRY(encode(codec, frame, take));
  CRABCAST_TRY(encode(codec, nullptr, take));
  return out;
}

Result<Frame> make_picture_frame(const AVCodecContext* codec) {
  auto frame = make_frame();
  if (!frame) return frame;
  (*frame)->format = codec->pix_fmt;
  (*frame)->width = codec->width;
  (*frame)->height = codec->height;
  CRABCAST_AV(av_frame_get_buffer(frame->get(), 0), "picture buffer");
  return frame;
}

Status configure_video(AVCodecContext* codec, const VideoFormat& format) {
  codec->width = format.width;
  codec->height = format.height;
  codec->time_base = {1, format.frames_per_second};
  codec->framerate = {format.frames_per_second, 1};
  codec->pix_fmt = AV_PIX_FMT_YUV420P;
  codec->gop_size = 5 * format.frames_per_second;  // a key frame each 5 s, for seeking
  codec->max_b_frames = 0;
  if (std::string_view(codec->codec->name) == "libx264") {
    av_opt_set(codec->priv_data, "preset", "ultrafast", 0);
    av_opt_set(codec->priv_data, "crf", "26", 0);
    av_opt_set(codec->priv_data, "x264-params", "scenecut=0", 0);
  } else {
    codec->flags |= AV_CODEC_FLAG_QSCALE;
    codec->global_quality = 5 * FF_QP2LAMBDA;
  }
  return {};
}

}  // namespace

Result<Bytes> encode_video(const VideoFormat& format, int frames,
                           const std::function<const Canvas&(int)>& draw) {
  CRABCAST_TRY(check_size(format.width, format.height));
  auto codec = make_codec(format.encoders);
  if (!codec) return fail(std::move(codec).error());
  CRABCAST_TRY(configure_video(codec->get(), format));
  Muxer muxer;
  CRABCAST_TRY(muxer.open(format.container, codec->get()));
  CRABCAST_TRY(open_codec(codec->get()));
  CRABCAST_TRY(muxer.start(codec->get()));
  auto frame = make_picture_frame(codec->get());
  if (!frame) return fail(std::move(frame).error());
  const auto take = [&](AVPacket* packet) {
    if (packet->duration == 0) packet->duration = 1;
    return muxer.write(packet);
  };
  for (int i = 0; i < frames; ++i) {
    const Canvas& canvas = draw(i);
    if (canvas.width() != format.width || canvas.height() != format.height)
      return fail(Errc::internal, "a drawn picture has not the size of its video");
    CRABCAST_AV(av_frame_make_writable(frame->get()), "picture buffer");
    to_yuv420(canvas, frame->get(), false);
    (*frame)->pts = i;
    (*frame)->quality = (*codec)->global_quality;
    CRABCAST_TRY(encode(codec->get(), frame->get(), take));
  }
  CRABCAST_TRY(encode(codec->get(), nullptr, take));
  return muxer.finish();
}

Result<Bytes> encode_audio(const std::string& container, std::span<const float> samples, int rate) {
  const bool mp3 = container == "mp3";
  if (!mp3 && container != "wav")
    return fail(Errc::invalid_argument, "unknown audio container " + container);
  auto made = make_codec(mp3 ? std::vector<std::string>{"libmp3lame", "libshine"}
                             : std::vector<std::string>{"pcm_s16le"});
  if (!made) return fail(std::move(made).error());
  AVCodecContext* codec = made->get();
  codec->sample_rate = rate;
  codec->time_base = {1, rate};
  codec->sample_fmt = mp3 ? AV_SAMPLE_FMT_S16P : AV_SAMPLE_FMT_S16;
  av_channel_layout_default(&codec->ch_layout, 1);
  if (mp3) {
    codec->bit_rate = 32000;
    codec->compression_level = 9;  // the quickest search
  }
  Muxer muxer;
  CRABCAST_TRY(muxer.open(container, codec));
  CRABCAST_TRY(open_codec(codec));
  CRABCAST_TRY(muxer.start(codec));
  const auto take = [&](AVPacket* packet) { return muxer.write(packet); };
  const std::size_t block = codec->frame_size > 0 ? static_cast<std::size_t>(codec->frame_size)
                                                  : static_cast<std::size_t>(rate);
  for (std::size_t at = 0; at < samples.size(); at += block) {
    auto frame = make_frame();
    if (!frame) return fail(std::move(frame).error());
    const std::size_t count = std::min(block, samples.size() - at);
    (*frame)->format = codec->sample_fmt;
    (*frame)->nb_samples = static_cast<int>(count);
    (*frame)->sample_rate = rate;
    (*frame)->pts = static_cast<std::int64_t>(at);
    CRABCAST_AV(av_channel_layout_copy(&(*frame)->ch_layout, &codec->ch_layout), "sound buffer");
    CRABCAST_AV(av_frame_get_buffer(frame->get(), 0), "sound buffer");
    auto* out = reinterpret_cast<std::int16_t*>((*frame)->data[0]);
    for (std::size_t i = 0; i < count; ++i)
      out[i] = static_cast<std::int16_t>(
          std::lround(std::clamp(samples[at + i], -1.0F, 1.0F) * 32767.0F));
    CRABCAST_TRY(encode(codec, frame->get(), take));
  }
  CRABCAST_TRY(encode(codec, nullptr, take));
  return muxer.finish();
}

Result<Bytes> encode_jpeg(const Canvas& picture) {
  CRABCAST_TRY(check_size(picture.width(), picture.height()));
  auto codec = make_codec({"mjpeg"});
  if (!codec) return fail(std::move(codec).error());
  (*codec)->width = picture.width();
  (*codec)->height = picture.height();
  (*codec)->time_base = {1, 1};
  (*codec)->pix_fmt = AV_PIX_FMT_YUVJ420P;
  (*codec)->color_range = AVCOL_RANGE_JPEG;
  (*codec)->flags |= AV_CODEC_FLAG_QSCALE;
  (*codec)->global_quality = 3 * FF_QP2LAMBDA;
  CRABCAST_TRY(open_codec(codec->get()));
  auto frame = make_picture_frame(codec->get());
  if (!frame) return fail(std::move(frame).error());
  to_yuv420(picture, frame->get(), true);
  (*frame)->pts = 0;
  (*frame)->quality = (*codec)->global_quality;
  return encode_picture(codec->get(), frame->get());
}

Result<Bytes> encode_png(std::span<const std::uint8_t> grey, int width, int height) {
  if (width <= 0 || height <= 0 ||
      grey.size() != static_cast<std::size_t>(width) * static_cast<std::size_t>(height))
    return fail(Errc::invalid_argument, "a mask of " + std::to_string(width) + " x " +
                                            std::to_string(height) + " needs as many bytes");
  auto codec = make_codec({"png"});
  if (!codec) return fail(std::move(codec).error());
  (*codec)->width = width;
  (*codec)->height = height;
  (*codec)->time_base = {1, 1};
  (*codec)->pix_fmt = AV_PIX_FMT_GRAY8;
  (*codec)->compression_level = 3;
  CRABCAST_TRY(open_codec(codec->get()));
  auto frame = make_picture_frame(codec->get());
  if (!frame) return fail(std::move(frame).error());
  for (int y = 0; y < height; ++y)
    std::memcpy((*frame)->data[0] + static_cast<std::ptrdiff_t>(y) * (*frame)->linesize[0],
                grey.data() + static_cast<std::ptrdiff_t>(y) * width,
                static_cast<std::size_t>(width));
  (*frame)->pts = 0;
  return encode_picture(codec->get(), frame->get());
}

}  // namespace crabcast::data
