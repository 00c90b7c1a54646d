// Pictures and masks.
#include <ATen/ops/empty.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "data/decode.h"
#include "data/media_reader.h"
#include "data/pixels.h"

namespace crabcast::data {
namespace {

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
  const StageTimer timer(file.options().times, Stage::demux);
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
  const StageTimer timer(options.times, Stage::decode);
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

}  // namespace

Result<at::Tensor> decode_image(const std::filesystem::path& path, const DecodeOptions& options) {
  return guarded<at::Tensor>(path, "decode", [&]() -> Result<at::Tensor> {
    auto picture = decode_picture(path, "decode", options);
    if (!picture) return fail(picture.error());
    const StageTimer timer(options.times, Stage::scale);
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
