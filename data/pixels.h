// Decoded frames to packed tensors. Private to data/.
#pragma once

extern "C" {
#include <libavutil/frame.h>
#include <libswscale/swscale.h>
}

#include <ATen/core/Tensor.h>

#include <memory>

#include "data/media_reader.h"

namespace crabcast::data {

// Converts frames of any pixel format; keeps its tables while the format stays the same.
// Not thread-safe.
class PixelConverter {
 public:
  // uint8 [H, W, 3]; transparent parts of a frame with alpha become white.
  Result<at::Tensor> rgb(const InputFile& file, std::string_view stage, const AVFrame& frame);
  // uint8 [H, W]: 1 where any channel, or the palette index, is not zero; alpha left out.
  Result<at::Tensor> non_zero(const InputFile& file, const AVFrame& frame);

 private:
  struct Free {
    void operator()(SwsContext* p) const { sws_freeContext(p); }
  };
  // uint8 [H, W * channels * bytes] of the frame in `format`.
  Result<at::Tensor> packed(const InputFile& file, std::string_view stage, const AVFrame& frame,
                            AVPixelFormat format, int pixel_bytes);
  // What swscale's tables were made for.
  struct Setting {
    int width = 0, height = 0;
    AVPixelFormat from = AV_PIX_FMT_NONE, to = AV_PIX_FMT_NONE;
    AVColorSpace space = AVCOL_SPC_UNSPECIFIED;
    bool full_range = false;
    bool operator==(const Setting&) const = default;
  };
  bool set_up(const Setting& setting);

  Setting setting_;
  std::unique_ptr<SwsContext, Free> context_;
};

}  // namespace crabcast::data
