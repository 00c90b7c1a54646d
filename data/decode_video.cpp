// Video: which frames there are, and the wanted ones with as little decoding as the codec allows.
extern "C" {
#include <libavutil/display.h>
}

#include <ATen/ops/rot90.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "data/decode.h"
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
  const StageTimer timer(media.file().options().times, Stage::demux);
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
    CRABCAST_TRY(reader.open_track(path, options));
    const StageTimer timer(options.times, Stage::decode);
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
      int code = receive();
      if (code == 0) return frame_.get();
      if (code == AVERROR_EOF) return nullptr;
      if (code != AVERROR(EAGAIN)) return file.failed("decode", code);
      auto more = read();
      if (!more) return fail(more.error());
      const StageTimer timer(file.options().times, Stage::decode);
      codec_->skip_frame = !*more || wanted(packet_->pts) ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
      code = avcodec_send_packet(codec_.get(), *more ? packet_.get() : nullptr);
      if (code < 0 && code != AVERROR_EOF) return file.failed("decode", code);
    }
  }

  // Goes to the key frame at `time`, or to one before it.
  bool seek(std::int64_t time) {
    const StageTimer timer(media_->file().options().times, Stage::demux);
    avcodec_flush_buffers(codec_.get());
    started_ = false;
    sought_ = true;
    fed_ = AV_NOPTS_VALUE;
    return av_seek_frame(&media_->format(), stream_->index, time, AVSEEK_FLAG_BACKWARD) >= 0;
  }
  // Whether the decoder has a frame of that time, or a later one: it is ahead of what came out.
  [[nodiscard]] bool has_fed(std::int64_t time) const {
    return fed_ != AV_NOPTS_VALUE && fed_ >= time;
  }

 private:
  Status open_track(const std::filesystem::path& path, const DecodeOptions& options) {
    const StageTimer timer(options.times, Stage::demux);
    auto media = MediaReader::open(path, options);
    if (!media) return fail(media.error());
    media_ = std::move(media).value();
    auto stream = media_->choose(AVMEDIA_TYPE_VIDEO);
    if (!stream) return fail(stream.error());
    stream_ = *stream;
    return {};
  }

  int receive() {
    const StageTimer timer(media_->file().options().times, Stage::decode);
    return avcodec_receive_frame(codec_.get(), frame_.get());
  }

  // The next packet that is worth decoding; false at the end.
  Result<bool> read() {
    const StageTimer timer(media_->file().options().times, Stage::demux);
    while (true) {
      auto more = media_->read(*packet_);
      if (!more || !*more) return more;
      const auto time = packet_->pts;
      // What comes before the first frame that decoding can start from cannot be shown.
      if (!started_ && (packet_->flags & AV_PKT_FLAG_KEY) == 0) continue;
      if (!started_ && sought_) start_ = time;
      started_ = true;
      // Nor can frames that are shown before it: they refer to frames that were left out (open
      // GOP).
      if (time != AV_NOPTS_VALUE && start_ != AV_NOPTS_VALUE && time < start_) continue;
      if (time != AV_NOPTS_VALUE) fed_ = std::max(fed_, time);
      return true;
    }
  }

  std::unique_ptr<MediaReader> media_;
  AVStream* stream_ = nullptr;
  CodecPtr codec_;
  PacketPtr packet_;
  FramePtr frame_;
  bool started_ = false, sought_ = false;
  std::int64_t start_ = AV_NOPTS_VALUE;  // time of the key frame that a seek led to
  std::int64_t fed_ = AV_NOPTS_VALUE;    // latest time that was given to the decoder
};

// What decode_video collects: converted frames by their place in the order of presentation.
struct Collector {
  const std::function<at::Tensor(at::Tensor)>& convert;
  int turns = 0;
  PixelConverter pixels;
  std::map<std::int64_t, VideoFrame> frames;

  Status add(const InputFile& file, const AVFrame& frame, std::int64_t place, double seconds) {
    const StageTimer timer(file.options().times, Stage::scale);
    auto rgb = pixels.rgb(file, "decode", frame);
    if (!rgb) return fail(rgb.error());
    auto tensor = turns == 0 ? *rgb : at::rot90(*rgb, turns, {0, 1}).contiguous();
    frames[place] = {convert ? convert(std::move(tensor)) : std::move(tensor), seconds};
    return {};
  }
};

// Frames are known by their times: decoding goes from key frame to key frame, past all that is not
// needed; without `seeking` from the first key frame on. False when a frame did not come out under
// its time, as after an inexact seek, or not at all: after the key frame of an open group decoders
// miss what they never saw, and may call that damage.
Result<bool> collect_by_time(VideoReader& reader, const FrameTable& table,
                             const std::vector<std::int64_t>& places, bool seeking,
                             Collector& out) {
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
    bool sought = false;
    // A seek saves the frames up to the key frame, unless the decoder is there already.
    if (position == AV_NOPTS_VALUE || (seeking && key > position && !reader.has_fed(key))) {
      sought = true;
      if (!reader.seek(seeking ? key : key_before(table.times.front()))) return false;
    }
    do {
      auto frame = reader.next(wanted);
      if (!frame && seeking && frame.error().code == Errc::data_error) return false;
      if (!frame) return fail(frame.error());
      if (*frame == nullptr || (*frame)->pts == AV_NOPTS_VALUE) return false;
      // Containers may call any frame a key frame.
      if (std::exchange(sought, false) && (*frame)->key_frame == 0 &&
          (*frame)->pict_type != AV_PICTURE_TYPE_I)
        return false;
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
  for (const bool seeking : {true, false}) {
    if (done || !table->timed) break;
    out.frames.clear();
    auto collected = collect_by_time(*reader, *table, distinct(indices), seeking, out);
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

}  // namespace crabcast::data
