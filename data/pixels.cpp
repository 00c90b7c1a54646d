#include "data/pixels.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <ATen/ops/empty.h>

#include <cstring>

namespace crabcast::data {
namespace {

// The "J" formats say "full range" in their name, which swscale no longer likes to hear.
AVPixelFormat without_range(AVPixelFormat format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P:
      return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ411P:
      return AV_PIX_FMT_YUV411P;
    case AV_PIX_FMT_YUVJ422P:
      return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P:
      return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P:
      return AV_PIX_FMT_YUV440P;
    default:
      return format;
  }
}

int coefficients_of(AVColorSpace space) {
  switch (space) {
    case AVCOL_SPC_BT709:
      return SWS_CS_ITU709;
    case AVCOL_SPC_FCC:
      return SWS_CS_FCC;
    case AVCOL_SPC_SMPTE240M:
      return SWS_CS_SMPTE240M;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return SWS_CS_BT2020;
    default:
      return SWS_CS_ITU601;
  }
}

// Integer blending with white, rounded: what image libraries do when they paste with a mask.
at::Tensor on_white(const at::Tensor& rgba) {
  const auto height = rgba.size(0), width = rgba.size(1) / 4;
  auto rgb = at::empty({height, width, 3}, at::kByte);
  const auto* from = rgba.const_data_ptr<std::uint8_t>();
  auto* to = rgb.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t pixel = 0; pixel < height * width; ++pixel, from += 4, to += 3) {
    const unsigned alpha = from[3];
    for (int channel = 0; channel < 3; ++channel)
      to[channel] =
          static_cast<std::uint8_t>((from[channel] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
  return rgb;
}

}  // namespace

bool PixelConverter::set_up(const Setting& setting) {
  if (context_ != nullptr && setting == setting_) return true;
  setting_ = setting;
  context_.reset(sws_getContext(setting.width, setting.height, without_range(setting.from),
                                setting.width, setting.height, setting.to,
                                SWS_BICUBIC | SWS_ACCURATE_RND, nullptr, nullptr, nullptr));
  if (context_ == nullptr) return false;
  constexpr int kUnit = 1 << 16;  // contrast and saturation as they are
  sws_setColorspaceDetails(context_.get(), sws_getCoefficients(coefficients_of(setting.space)),
                           setting.full_range ? 1 : 0, sws_getCoefficients(SWS_CS_DEFAULT), 1, 0,
                           kUnit, kUnit);
  return true;
}

Result<at::Tensor> PixelConverter::packed(const InputFile& file, std::string_view stage,
                                          const AVFrame& frame, AVPixelFormat format,
                                          int pixel_bytes) {
  const auto from = static_cast<AVPixelFormat>(frame.format);
  const bool full_range = from != without_range(from) || frame.color_range == AVCOL_RANGE_JPEG;
  if (!set_up({frame.width, frame.height, from, format, frame.colorspace, full_range}))
    return file.failed(stage, "its pixel format cannot be converted");
  // swscale writes whole vectors: rows need room behind their end.
  const int row = frame.width * pixel_bytes;
  const int stride = (row + 63) / 64 * 64 + 64;
  auto buffer = at::empty({frame.height, stride}, at::kByte);
  std::uint8_t* planes[4] = {buffer.mutable_data_ptr<std::uint8_t>(), nullptr, nullptr, nullptr};
  const int strides[4] = {stride, 0, 0, 0};
  const int rows =
      sws_scale(context_.get(), frame.data, frame.linesize, 0, frame.height, planes, strides);
  if (rows != frame.height) return file.failed(stage, "its pixels cannot be converted");
  auto pixels = at::empty({frame.height, row}, at::kByte);
  auto* to = pixels.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t y = 0; y < frame.height; ++y)
    std::memcpy(to + y * row, planes[0] + y * stride, static_cast<std::size_t>(row));
  return pixels;
}

Result<at::Tensor> PixelConverter::rgb(const InputFile& file, std::string_view stage,
                                       const AVFrame& frame) {
  const auto* layout = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  const bool alpha = layout != nullptr && (layout->flags & AV_PIX_FMT_FLAG_ALPHA) != 0 &&
                     (layout->flags & AV_PIX_FMT_FLAG_RGB) != 0 &&
                     (layout->flags & AV_PIX_FMT_FLAG_PAL) == 0;
  if (alpha) {
    auto rgba = packed(file, stage, frame, AV_PIX_FMT_RGBA, 4);
    if (!rgba) return rgba;
    return on_white(*rgba);
  }
  auto rgb = packed(file, stage, frame, AV_PIX_FMT_RGB24, 3);
  if (!rgb) return rgb;
  return rgb->view({frame.height, frame.width, 3});
}

Result<at::Tensor> PixelConverter::non_zero(const InputFile& file, const AVFrame& frame) {
  const auto format = static_cast<AVPixelFormat>(frame.format);
  if (format == AV_PIX_FMT_PAL8 || format == AV_PIX_FMT_GRAY8) {
    auto mask = at::empty({frame.height, frame.width}, at::kByte);
    auto* to = mask.mutable_data_ptr<std::uint8_t>();
    for (int y = 0; y < frame.height; ++y)
      for (int x = 0; x < frame.width; ++x)
        *to++ = frame.data[0][y * frame.linesize[0] + x] != 0 ? 1 : 0;
    return mask;
  }
  // 16 bits a channel, so that no faint value is rounded to zero.
  auto wide = packed(file, "mask", frame, AV_PIX_FMT_RGB48LE, 6);
  if (!wide) return wide;
  return wide->view({frame.height, frame.width, 6}).ne(0).any(2).to(at::kByte);
}

}  // namespace crabcast::data
