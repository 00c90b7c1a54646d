#include "data/decode.h"

extern "C" {
#include <libavutil/display.h>
}

#include <ATen/ops/empty.h>
#include <ATen/ops/rot90.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "data/media_reader.h"
#include "data/pixels.h"

namespace crabcast::data {
namespace {

// Presentation times of all frames, from one pass over the packets without decoding any. Counting
// packets is exact where a container's own frame count or frame rate may be wrong.
struct FrameTable {
  std::vector<std::int64_t> times;  // of displayed frames, sorted, in units of the track
  std::vector<std::int64_t> keys;   // of frames that decoding can start from, sorted
  std::int64_t packets = 0;
  bool timed = true;  // every packet had a presentation time, and no two the same
};

// A file that was cut off: the header lists data beyond its end.
Status check_whole(MediaReader& media, AVStream& stream) {
  const int entries = avformat_index_get_entries_count(&stream);
  for (int i = 0; i < entries; ++i) {
    const auto* entry = avformat_index_get_entry(&stream, i);
    if (entry->pos + entry->size > static_cast<std::int64_t>(media.file().size()))
      return media.file().failed("demux", "is cut off: its index names data beyond the end");
  }
  return {};
}

Result<FrameTable> list_frames(MediaReader& media, AVStream& stream) {
  CRABCAST_TRY(check_whole(media, stream));
  FrameTable table;
  PacketPtr packet(av_packet_alloc());
  if (packet == nullptr) return media.file().failed("demux", AVERROR(ENOMEM));
  while (true) {
    auto more = media.read(*packet);
    if (!more) return fail(more.error());
    if (!*more) break;
    if (packet->size == 0) continue;
    if (++table.packets > media.file().options().limits.frames)
      return media.file().failed("demux", "has too many frames");
    if (packet->pts == AV_NOPTS_VALUE) {
      table.timed = false;
      continue;
    }
    if ((packet->flags & AV_PKT_FLAG_KEY) != 0) table.keys.push_back(packet->pts);
    if ((packet->flags & AV_PKT_FLAG_DISCARD) == 0) table.times.push_back(packet->pts);
  }
  std::sort(table.times.begin(), table.times.end());
  std::sort(table.keys.begin(), table.keys.end());
  if (std::adjacent_find(table.times.begin(), table.times.end()) != table.times.end())
    table.timed = false;
  if (table.packets == 0 || (table.timed && table.times.empty()))
    return media.file().failed("demux", "has no frames");
  return table;
}

// Quarter turns, anticlockwise, that make the picture upright.
int quarter_turns(const AVStream& stream) {
  const auto* matrix = reinterpret_cast<const std::int32_t*>(
      av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr));
  if (matrix == nullptr) return 0;
  const double angle = av_display_rotation_get(matrix);
  if (!std::isfinite(angle)) return 0;
  return static_cast<int>(std::lround(angle / 90)) & 3;
}

// Decodes one track from a point on and hands the frames out in order of presentation.
class VideoReader {
 public:
  static Result<VideoReader> open(const std::filesystem::path& path, const DecodeOptions& options) {
    VideoReader reader;
    auto media = MediaReader::open(path, options);
    if (!media) return fail(media.error());
    reader.media_ = std::move(media).value();
    auto stream = reader.media_->choose(AVMEDIA_TYPE_VIDEO);
    if (!stream) return fail(stream.error());
    reader.stream_ = *stream;
    const auto& file = reader.media_->file();
    const auto& parameters = *reader.stream_->codecpar;
    if (std::int64_t{parameters.width} * parameters.height > options.limits.pixels)
      return file.failed("open", "has frames of " + std::to_string(parameters.width) + " x " +
                                     std::to_string(parameters.height) + " pixels; the limit is " +
                                     std::to_string(options.limits.pixels) + " pixels");
    auto codec = open_decoder(file, parameters, reader.stream_->time_base, true);
    if (!codec) return fail(codec.error());
    reader.codec_ = std::move(codec).value();
    reader.packet_.reset(av_packet_alloc());
    reader.frame_.reset(av_frame_alloc());
    if (reader.packet_ == nullptr || reader.frame_ == nullptr)
      return file.failed("open", AVERROR(ENOMEM));
    return reader;
  }

  [[nodiscard]] MediaReader& media() { return *media_; }
  [[nodiscard]] AVStream& stream() { return *stream_; }

  // The next frame; null at the end. `wanted` tells by its time whether a frame will be looked at:
  // of the others, those that no frame refers to are not decoded at all, which changes no pixel.
  Result<AVFrame*> next(const std::function<bool(std::int64_t)>& wanted) {
    const auto& file = media_->file();
    while (true) {
      int code = avcodec_receive_frame(codec_.get(), frame_.get());
      if (code == 0) return frame_.get();
      if (code == AVERROR_EOF) return nullptr;
      if (code != AVERROR(EAGAIN)) return file.failed("decode", code);
      auto more = media_->read(*packet_);
      if (!more) return fail(more.error());
      // What comes before the first frame that decoding can start from cannot be shown.
      if (*more && !started_ && (packet_->flags & AV_PKT_FLAG_KEY) == 0) continue;
      started_ = true;
      codec_->skip_frame = !*more || wanted(packet_->pts) ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
      code = avcodec_send_packet(codec_.get(), *more ? packet_.get() : nullptr);
      if (code < 0 && code != AVERROR_EOF) return file.failed("decode", code);
    }
  }

  // Goes to the frame at `time`, from which decoding can start, or to one before it.
  bool seek(std::int64_t time) {
    avcodec_flush_buffers(codec_.get());
    started_ = false;
    return av_seek_frame(&media_->format(), stream_->index, time, AVSEEK_FLAG_BACKWARD) >= 0;
  }

 private:
  std::unique_ptr<MediaReader> media_;
  AVStream* stream_ = nullptr;
  CodecPtr codec_;
  PacketPtr packet_;
  FramePtr frame_;
  bool started_ = false;
};

// What decode_video collects: converted frames by their place in the order of presentation.
struct Collector {
  const std::function<at::Tensor(at::Tensor)>& convert;
  int turns = 0;
  PixelConverter pixels;
  std::map<std::int64_t, VideoFrame> frames;

  Status add(const InputFile& file, const AVFrame& frame, std::int64_t place, double seconds) {
    auto rgb = pixels.rgb(file, "decode", frame);
    if (!rgb) return fail(rgb.error());
    auto tensor = turns == 0 ? *rgb : at::rot90(*rgb, turns, {0, 1}).contiguous();
    frames[place] = {convert ? convert(std::move(tensor)) : std::move(tensor), seconds};
    return {};
  }
};

// Frames are known by their times: decoding goes from key frame to key frame, past all that is not
// needed. False when a frame did not come out under its time, as after an inexact seek.
Result<bool> collect_by_time(VideoReader& reader, const FrameTable& table,
                             const std::vector<std::int64_t>& places, Collector& out) {
  const double unit = av_q2d(reader.stream().time_base);
  const auto wanted = [&](std::int64_t time) {
    const auto at = std::lower_bound(table.times.begin(), table.times.end(), time);
    return at != table.times.end() && *at == time &&
           std::binary_search(places.begin(), places.end(), at - table.times.begin());
  };
  const auto key_before = [&](std::int64_t time) {
    const auto after = std::upper_bound(table.keys.begin(), table.keys.end(), time);
    return after == table.keys.begin() ? table.times.front() : *std::prev(after);
  };
  std::int64_t position = AV_NOPTS_VALUE;  // time of the frame that came out last
  for (const auto place : places) {
    const auto time = table.times[static_cast<std::size_t>(place)];
    const auto key = key_before(time);
    if (position == AV_NOPTS_VALUE || key > position)
      if (!reader.seek(key)) return false;
    do {
      auto frame = reader.next(wanted);
      if (!frame) return fail(frame.error());
      if (*frame == nullptr || (*frame)->pts == AV_NOPTS_VALUE) return false;
      position = (*frame)->pts;
      if (position > time) return false;
      if (position == time)
        CRABCAST_TRY(out.add(reader.media().file(), **frame, place,
                             static_cast<double>(time - table.times.front()) * unit));
    } while (position < time);
  }
  return true;
}

// Frames are counted as they come out, from the first to the last. Returns how many there were.
Result<std::int64_t> collect_by_count(VideoReader& reader, const std::vector<std::int64_t>& places,
                                      Collector& out) {
  const double unit = av_q2d(reader.stream().time_base);
  const AVRational rate = reader.stream().avg_frame_rate;
  const double step = rate.num > 0 && rate.den > 0 ? 1 / av_q2d(rate) : 0;
  std::optional<std::int64_t> first;
  double seconds = 0;
  for (std::int64_t place = 0;; ++place) {
    auto frame = reader.next([](std::int64_t) { return true; });
    if (!frame) return fail(frame.error());
    if (*frame == nullptr) return place;
    const auto time = (*frame)->best_effort_timestamp;
    if (time != AV_NOPTS_VALUE) {
      if (!first) first = time;
      seconds = static_cast<double>(time - *first) * unit;
    } else if (place > 0) {
      seconds += step;
    }
    if (std::binary_search(places.begin(), places.end(), place))
      CRABCAST_TRY(out.add(reader.media().file(), **frame, place, seconds));
  }
}

std::vector<std::int64_t> distinct(std::vector<std::int64_t> indices) {
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  return indices;
}

Result<std::vector<VideoFrame>> decode_frames(
    const std::filesystem::path& path, int count, const DecodeOptions& options,
    const std::function<at::Tensor(at::Tensor)>& convert) {
  auto reader = VideoReader::open(path, options);
  if (!reader) return fail(reader.error());
  auto table = list_frames(reader->media(), reader->stream());
  if (!table) return fail(table.error());

  Collector out{convert, quarter_turns(reader->stream()), {}, {}};
  auto total = table->timed ? static_cast<std::int64_t>(table->times.size()) : table->packets;
  auto indices = uniform_indices(total, count);
  bool done = false;
  if (table->timed) {
    auto collected = collect_by_time(*reader, *table, distinct(indices), out);
    if (!collected) return fail(collected.error());
    done = *collected;
  }
  // Without reliable times: decode all, in order. Some packets may hold no frame; then the true
  // number is known only at the end, and a second pass takes the right ones.
  for (int pass = 0; !done && pass < 2; ++pass) {
    reader = VideoReader::open(path, options);
    if (!reader) return fail(reader.error());
    out.frames.clear();
    indices = uniform_indices(total, count);
    auto counted = collect_by_count(*reader, distinct(indices), out);
    if (!counted) return fail(counted.error());
    if (*counted == 0) return reader->media().file().failed("decode", "no frame can be decoded");
    done = *counted == total;
    total = *counted;
  }
  if (!done) return reader->media().file().failed("decode", "its number of frames changes");

  std::vector<VideoFrame> frames;
  for (const auto index : indices) frames.push_back(out.frames.at(index));
  return frames;
}

// Pictures are known by their first bytes.
AVCodecID picture_codec(const std::uint8_t* bytes, std::size_t size) {
  struct Kind {
    std::string_view magic;
    std::size_t at;
    AVCodecID codec;
  };
  using namespace std::string_view_literals;
  static constexpr std::array kKinds = {
      Kind{"\xFF\xD8\xFF"sv, 0, AV_CODEC_ID_MJPEG},
      Kind{"\x89PNG\r\n"sv, 0, AV_CODEC_ID_PNG},
      Kind{"BM"sv, 0, AV_CODEC_ID_BMP},
      Kind{"WEBP"sv, 8, AV_CODEC_ID_WEBP},
      Kind{"II*\0"sv, 0, AV_CODEC_ID_TIFF},
      Kind{"MM\0*"sv, 0, AV_CODEC_ID_TIFF},
  };
  for (const auto& kind : kKinds)
    if (size >= kind.at + kind.magic.size() &&
        std::memcmp(bytes + kind.at, kind.magic.data(), kind.magic.size()) == 0)
      return kind.codec;
  return AV_CODEC_ID_NONE;
}

Result<PacketPtr> read_whole(const InputFile& file) {
  PacketPtr packet(av_packet_alloc());
  if (packet == nullptr || av_new_packet(packet.get(), static_cast<int>(file.size())) < 0)
    return file.failed("open", AVERROR(ENOMEM));
  std::size_t done = 0;
  while (done < file.size()) {
    const auto got = ::read(file.descriptor(), packet->data + done, file.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file.failed("open", AVERROR(errno));
    if (got == 0) return file.failed("open", "shrank while it was read");
    done += static_cast<std::size_t>(got);
    if (file.expired()) return file.failed("open", "");
  }
  return packet;
}

struct Picture {
  InputFile file;
  FramePtr frame;
};

Result<Picture> decode_picture(const std::filesystem::path& path, std::string_view stage,
                               const DecodeOptions& options) {
  auto input = InputFile::open(path, options, options.limits.picture_bytes);
  if (!input) return fail(input.error());
  const InputFile& file = *input;
  auto packet = read_whole(file);
  if (!packet) return fail(packet.error());
  AVCodecParameters parameters{};
  parameters.codec_type = AVMEDIA_TYPE_VIDEO;
  parameters.codec_id = picture_codec((*packet)->data, file.size());
  if (parameters.codec_id == AV_CODEC_ID_NONE)
    return file.failed("open", "is no picture of a known kind (jpg, png, bmp, webp, tiff)");
  parameters.format = -1;
  auto codec = open_decoder(file, parameters, {1, 1}, true);
  if (!codec) return fail(codec.error());
  FramePtr frame(av_frame_alloc());
  if (frame == nullptr) return file.failed(stage, AVERROR(ENOMEM));
  int code = avcodec_send_packet(codec->get(), packet->get());
  if (code >= 0) code = avcodec_send_packet(codec->get(), nullptr);
  if (code >= 0) code = avcodec_receive_frame(codec->get(), frame.get());
  if (code == AVERROR_EOF) return file.failed(stage, "no picture can be decoded");
  if (code < 0) return file.failed(stage, code);
  return Picture{std::move(input).value(), std::move(frame)};
}

at::Tensor nearest(const at::Tensor& mask, int size) {
  auto resized = at::empty({size, size}, at::kByte);
  const auto* from = mask.const_data_ptr<std::uint8_t>();
  auto* to = resized.mutable_data_ptr<std::uint8_t>();
  const auto height = mask.size(0), width = mask.size(1);
  for (std::int64_t y = 0; y < size; ++y)
    for (std::int64_t x = 0; x < size; ++x)
      *to++ = from[y * height / size * width + x * width / size];
  return resized;
}

// LibTorch throws; nothing may leave this file but a value.
template <class T, class Body>
Result<T> guarded(const std::filesystem::path& path, std::string_view stage, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(Errc::resource_exhausted, path.string() + ": out of memory");
  } catch (const std::exception& error) {
    return fail(Errc::data_error, path.string() + ": " + std::string(stage) + ": " + error.what());
  }
}

}  // namespace

std::vector<std::int64_t> uniform_indices(std::int64_t frames, int count) {
  std::vector<std::int64_t> indices;
  const std::int64_t gaps = std::max(1, count - 1);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t index = i * (frames - 1) / gaps;
    const std::int64_t twice = 2 * (i * (frames - 1) % gaps);
    if (twice > gaps || (twice == gaps && index % 2 == 1)) ++index;
    indices.push_back(index);
  }
  return indices;
}

Result<std::vector<VideoFrame>> decode_video(const std::filesystem::path& path, int count,
                                             const DecodeOptions& options,
                                             const std::function<at::Tensor(at::Tensor)>& convert) {
  if (count < 1)
    return fail(Errc::invalid_argument, path.string() + ": at least one frame must be asked for");
  return guarded<std::vector<VideoFrame>>(
      path, "decode", [&] { return decode_frames(path, count, options, convert); });
}

Result<at::Tensor> decode_image(const std::filesystem::path& path, const DecodeOptions& options) {
  return guarded<at::Tensor>(path, "decode", [&]() -> Result<at::Tensor> {
    auto picture = decode_picture(path, "decode", options);
    if (!picture) return fail(picture.error());
    return PixelConverter().rgb(picture->file, "decode", *picture->frame);
  });
}

Result<at::Tensor> decode_mask(const std::filesystem::path& path) {
  return decode_mask(path, 0, {});
}

Result<at::Tensor> decode_mask(const std::filesystem::path& path, int size,
                               const DecodeOptions& options) {
  return guarded<at::Tensor>(path, "mask", [&]() -> Result<at::Tensor> {
    auto picture = decode_picture(path, "mask", options);
    if (!picture) return fail(picture.error());
    auto mask = PixelConverter().non_zero(picture->file, *picture->frame);
    if (!mask || size <= 0) return mask;
    return nearest(*mask, size);
  });
}

}  // namespace crabcast::data
