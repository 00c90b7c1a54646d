// Sound: any audio track to mono floats at 16 kHz, and the windows of the data sets.
#include <ATen/ops/empty.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "data/decode.h"
#include "data/media_reader.h"

extern "C" {
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
}

namespace crabcast::data {
namespace {

constexpr std::size_t kSecond = kSampleRate;
constexpr int kMaxChannels = 64;  // of swresample

// centred_windows: the clip counts as one minute, whatever its length.
constexpr std::size_t kClipSeconds = 60;
constexpr std::size_t kWindows = 10;
constexpr std::size_t kWindowSpacing = 6;

// Mixes to the mean of the channels and resamples. Set up again when the track's format changes.
class Mixer {
 public:
  Mixer() = default;
  Mixer(const Mixer&) = delete;
  Mixer& operator=(const Mixer&) = delete;
  ~Mixer() { close(); }

  Status add(const InputFile& file, const AVFrame& frame, std::vector<float>& out) {
    const int channels = frame.ch_layout.nb_channels;
    if (frame.sample_rate <= 0 || channels <= 0 || channels > kMaxChannels)
      return file.failed("audio", "has no usable sample rate or channels");
    if (swr_ == nullptr || frame.sample_rate != rate_ || channels != channels_ ||
        frame.format != format_) {
      CRABCAST_TRY(flush(file, out));
      close();
      CRABCAST_TRY(open(file, frame));
    }
    return convert(file, const_cast<const std::uint8_t**>(frame.extended_data), frame.nb_samples,
                   out);
  }

  // What the resampler still holds.
  Status flush(const InputFile& file, std::vector<float>& out) {
    return swr_ == nullptr ? Status{} : convert(file, nullptr, 0, out);
  }

 private:
  Status open(const InputFile& file, const AVFrame& frame) {
    rate_ = frame.sample_rate;
    channels_ = frame.ch_layout.nb_channels;
    format_ = frame.format;
    AVChannelLayout from{}, to{};
    av_channel_layout_default(&from, channels_);
    av_channel_layout_default(&to, 1);
    int code = swr_alloc_set_opts2(&swr_, &to, AV_SAMPLE_FMT_FLT, kSampleRate, &from,
                                   static_cast<AVSampleFormat>(format_), rate_, 0, nullptr);
    // FFmpeg's own mixing would make two channels 1.4 times as loud as their mean.
    const std::vector<double> mean(static_cast<std::size_t>(channels_), 1.0 / channels_);
    if (code >= 0) code = swr_set_matrix(swr_, mean.data(), channels_);
    if (code >= 0) code = swr_init(swr_);
    av_channel_layout_uninit(&from);
    av_channel_layout_uninit(&to);
    if (code < 0) return file.failed("audio", code);
    return {};
  }

  void close() { swr_free(&swr_); }

  Status convert(const InputFile& file, const std::uint8_t** data, int samples,
                 std::vector<float>& out) {
    const int room = swr_get_out_samples(swr_, samples);
    if (room < 0) return file.failed("audio", room);
    const std::size_t before = out.size();
    out.resize(before + static_cast<std::size_t>(room));
    auto* to = reinterpret_cast<std::uint8_t*>(out.data() + before);
    const int made = swr_convert(swr_, &to, room, data, samples);
    out.resize(before + static_cast<std::size_t>(std::max(0, made)));
    if (made < 0) return file.failed("audio", made);
    return {};
  }

  SwrContext* swr_ = nullptr;
  int rate_ = 0, channels_ = 0, format_ = -1;
};

// Compressed sound often starts in the middle of a stream, so that its first packets refer to what
// was cut away: a few bad packets are left out, many make the file bad.
class BadPackets {
 public:
  void good() { ++total_; }
  Status bad(const InputFile& file, int code) {
    ++total_;
    ++bad_;
    if (bad_ > kAllowed && bad_ * 20 > total_) return file.failed("audio", code);
    return {};
  }

 private:
  static constexpr int kAllowed = 4;
  int total_ = 0, bad_ = 0;
};

// A file that was cut off still decodes up to its end. Where the header says how much there should
// be, a tenth may be missing; writers of streams, which cannot know, put 0 or all ones there.
Status check_whole(const MediaReader& media, const AVStream& stream, std::size_t samples) {
  const InputFile& file = media.file();
  if (media.is("wav")) {
    std::array<std::uint8_t, 4> bytes{};
    if (::pread(file.descriptor(), bytes.data(), bytes.size(), 4) != 4) return {};
    const std::uint64_t said =
        bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<std::uint64_t>(bytes[3]) << 24;
    if (said == 0 || said == 0xFFFFFFFF || file.size() * 10 >= said * 9) return {};
    return file.failed("audio", "is cut off: " + std::to_string(file.size()) + " of " +
                                    std::to_string(said) + " bytes are there");
  }
  if ((!media.is("mp3") && !media.is("flac")) || stream.duration == AV_NOPTS_VALUE) return {};
  const double said = static_cast<double>(stream.duration) * av_q2d(stream.time_base);
  const double got = static_cast<double>(samples) / kSampleRate;
  if (got + 0.25 >= 0.9 * said) return {};
  return file.failed("audio", "is cut off: " + std::to_string(got) + " of " + std::to_string(said) +
                                  " seconds are there");
}

Result<std::vector<float>> read_track(const std::filesystem::path& path, std::size_t max_samples,
                                      const DecodeOptions& options) {
  auto opened = MediaReader::open(path, options);
  if (!opened) return fail(opened.error());
  MediaReader& media = **opened;
  const InputFile& file = media.file();
  auto stream = media.choose(AVMEDIA_TYPE_AUDIO);
  if (!stream) return fail(stream.error());
  auto codec = open_decoder(file, *(*stream)->codecpar, (*stream)->time_base, false);
  if (!codec) return fail(codec.error());
  PacketPtr packet(av_packet_alloc());
  FramePtr frame(av_frame_alloc());
  if (packet == nullptr || frame == nullptr) return file.failed("audio", AVERROR(ENOMEM));

  std::vector<float> samples;
  Mixer mixer;
  BadPackets packets;
  bool more = true;
  while (more && samples.size() < max_samples) {
    auto read = media.read(*packet);
    if (!read) return fail(read.error());
    more = *read;
    int code = avcodec_send_packet(codec->get(), more ? packet.get() : nullptr);
    if (code == AVERROR(ENOMEM)) return file.failed("audio", code);
    if (code < 0 && code != AVERROR_EOF) {
      CRABCAST_TRY(packets.bad(file, code));
      continue;
    }
    while ((code = avcodec_receive_frame(codec->get(), frame.get())) == 0)
      CRABCAST_TRY(mixer.add(file, *frame, samples));
    if (code != AVERROR(EAGAIN) && code != AVERROR_EOF)
      CRABCAST_TRY(packets.bad(file, code));
    else
      packets.good();
  }
  CRABCAST_TRY(mixer.flush(file, samples));
  if (samples.empty()) return file.failed("audio", "no sound can be decoded");
  if (!more) CRABCAST_TRY(check_whole(media, **stream, samples.size()));
  samples.resize(std::min(samples.size(), max_samples));
  return samples;
}

void append(std::vector<float>& out, const std::vector<float>& clip, std::size_t from,
            std::size_t to) {
  to = std::min(to, clip.size());
  if (from < to)
    out.insert(out.end(), clip.begin() + static_cast<std::ptrdiff_t>(from),
               clip.begin() + static_cast<std::ptrdiff_t>(to));
}

}  // namespace

std::vector<float> cut_window(std::vector<float> clip, const AudioRequest& request) {
  if (clip.size() < kSecond) clip.resize(kSecond);
  const auto parts = static_cast<std::size_t>(std::max(1, request.parts));
  std::vector<float> out;
  switch (request.window) {
    case AudioWindow::parts_of_second:
      // Equal parts joined again are the clip without the remainder.
      append(out, clip, 0, clip.size() / parts * parts);
      break;
    case AudioWindow::first_seconds:
      append(out, clip, 0, parts * kSecond);
      out.resize(parts * kSecond);
      break;
    case AudioWindow::centred_windows: {
      const std::size_t second = clip.size() / kClipSeconds;
      for (std::size_t i = 0; i < kWindows; ++i) {
        const std::size_t centre = i * kWindowSpacing * second;
        // Before the start of the clip there is silence.
        if (centre < second) out.resize(out.size() + second - centre);
        append(out, clip, centre - std::min(centre, second), centre + second);
        out.resize((i + 1) * 2 * second);
      }
      break;
    }
    case AudioWindow::at_frame_index: {
      const std::size_t second = clip.size() / parts;
      const auto first = static_cast<std::size_t>(std::max(0, request.frame_index)) * second;
      append(out, clip, first, first + second);
      out.resize(second);
      break;
    }
  }
  if (out.size() < kSecond) out.resize(kSecond);
  return out;
}

Result<at::Tensor> decode_audio(const std::filesystem::path& path, const AudioRequest& request,
                                const DecodeOptions& options) {
  const StageTimer timer(options.times, Stage::audio);
  return guarded<at::Tensor>(path, "audio", [&]() -> Result<at::Tensor> {
    const auto seconds =
        request.window == AudioWindow::first_seconds
            ? static_cast<std::size_t>(std::clamp(request.parts, 1, kMaxAudioSeconds))
            : std::size_t{kMaxAudioSeconds};
    auto clip = read_track(path, seconds * kSecond, options);
    if (!clip) return fail(clip.error());
    const auto window = cut_window(std::move(clip).value(), request);
    auto tensor = at::empty({static_cast<std::int64_t>(window.size())}, at::kFloat);
    std::memcpy(tensor.mutable_data_ptr<float>(), window.data(), window.size() * sizeof(float));
    return tensor;
  });
}

}  // namespace crabcast::data
