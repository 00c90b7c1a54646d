#include "data/patches.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <immintrin.h>

#include <algorithm>
#include <array>

namespace crabcast::data {
namespace {

// Of CLIP's training pictures; the vision tower was trained with them.
constexpr std::array<float, 3> kMean = {0.48145466F, 0.4578275F, 0.40821073F};
constexpr std::array<float, 3> kDeviation = {0.26862954F, 0.26130258F, 0.27577711F};

constexpr float kByteUnit = static_cast<float>(1.0 / 255);

// What each byte is in each channel. A byte has few values: looking them up is faster than
// computing them one by one for a million pixels, and gives the same bits.
using Values = std::array<float, 256>;
const std::array<Values, 3>& values() {
  static const auto all = [] {
    std::array<Values, 3> made{};
    for (std::size_t channel = 0; channel < 3; ++channel)
      for (std::size_t byte = 0; byte < 256; ++byte) {
        const float scaled = static_cast<float>(byte) * kByteUnit;
        made[channel][byte] = (scaled - kMean[channel]) / kDeviation[channel];
      }
    return made;
  }();
  return all;
}

// One channel of one frame of a patch; returns where the next one goes.
float* write_patch(const std::uint8_t* from, std::int64_t stride, std::int64_t side,
                   const Values& values, float* to) {
  for (std::int64_t y = 0; y < side; ++y, from += stride)
    for (std::int64_t x = 0; x < side; ++x) *to++ = values[from[x]];
  return to;
}

// Computes a channel's values eight at a time, the same bits as `values` (AVX2 has no fused
// multiplication, which would round once less). Returns how many: not the last few.
__attribute__((target("avx2"))) std::int64_t widen_by_eight(const std::uint8_t* from,
                                                            std::int64_t count, std::size_t channel,
                                                            float* to) {
  const __m256 unit = _mm256_set1_ps(kByteUnit), mean = _mm256_set1_ps(kMean[channel]),
               deviation = _mm256_set1_ps(kDeviation[channel]);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i));
    const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), unit);
    _mm256_storeu_ps(to + i, _mm256_div_ps(_mm256_sub_ps(scaled, mean), deviation));
  }
  return i;
}

// Rows hold one run of values for each channel: calls take(channel, first, end).
template <class Take>
void for_each_run(const at::Tensor& rows, const Take& take) {
  const std::int64_t run = std::max<std::int64_t>(1, rows.size(1) / 3);
  for (std::int64_t first = 0, i = 0; first < rows.numel(); first += run, ++i)
    take(static_cast<std::size_t>(i % 3), first, first + run);
}

}  // namespace

at::Tensor resize_square(const at::Tensor& rgb, int size) {
  const auto planes = rgb.permute({2, 0, 1});
  if (rgb.size(0) == size && rgb.size(1) == size) return planes.contiguous();
  const auto in = planes.unsqueeze(0).to(at::kFloat).contiguous();
  const auto out = at::_upsample_bicubic2d_aa(in, {size, size}, /*align_corners=*/false);
  return out.squeeze(0).clamp(0, 255).round().to(at::kByte);
}

Patches make_patches(const std::vector<at::Tensor>& frames, const model::MediaShape& shape) {
  const std::int64_t patch = shape.patch_size, merge = shape.merge, time = shape.temporal_patch;
  const auto count = static_cast<std::int64_t>(frames.size());
  const auto height = frames.front().size(1), width = frames.front().size(2);
  const auto t = (count + time - 1) / time, h = height / patch, w = width / patch;
  auto rows = at::empty({t * h * w, 3 * time * patch * patch}, at::kFloat);
  auto* to = rows.mutable_data_ptr<float>();
  std::vector<at::Tensor> whole;  // of the frames of one temporal patch
  for (std::int64_t step = 0; step < t; ++step) {
    whole.clear();
    for (std::int64_t i = step * time; i < (step + 1) * time; ++i)
      whole.push_back(frames[static_cast<std::size_t>(std::min(i, count - 1))].contiguous());
    for (std::int64_t i = 0; i < h * w; ++i) {
      // Block by block; in a block, patch by patch.
      const auto block = i / (merge * merge), inside = i % (merge * merge);
      const auto y = block / (w / merge) * merge + inside / merge;
      const auto x = block % (w / merge) * merge + inside % merge;
      for (std::size_t channel = 0; channel < 3; ++channel)
        for (const auto& frame : whole)
          to = write_patch(frame.const_data_ptr<std::uint8_t>() +
                               (static_cast<std::int64_t>(channel) * height + y * patch) * width +
                               x * patch,
                           width, patch, values()[channel], to);
    }
  }
  return {rows, at::tensor({t, h, w}, at::kLong).view({1, 3})};
}

at::Tensor bytes_of_pixels(const at::Tensor& pixel_values) {
  const at::Tensor pixels = pixel_values.contiguous();
  at::Tensor bytes = at::empty(pixels.sizes(), at::kByte);
  const auto* from = pixels.const_data_ptr<float>();
  auto* to = bytes.mutable_data_ptr<std::uint8_t>();
  for_each_run(pixels, [&](std::size_t channel, std::int64_t first, std::int64_t end) {
    // Values rise evenly with the bytes.
    const Values& all = values()[channel];
    const float low = all.front(), step = (all.back() - low) / 255;
    for (std::int64_t i = first; i < end; ++i)
      to[i] = static_cast<std::uint8_t>((from[i] - low) / step + 0.5F);
  });
  return bytes;
}

at::Tensor pixels_of_bytes(const at::Tensor& bytes) {
  at::Tensor pixels = at::empty(bytes.sizes(), at::kFloat);
  const auto* from = bytes.const_data_ptr<std::uint8_t>();
  auto* to = pixels.mutable_data_ptr<float>();
  const bool by_eight = __builtin_cpu_supports("avx2") != 0;
  for_each_run(bytes, [&](std::size_t channel, std::int64_t first, std::int64_t end) {
    if (by_eight) first += widen_by_eight(from + first, end - first, channel, to + first);
    for (std::int64_t i = first; i < end; ++i) to[i] = values()[channel][from[i]];
  });
  return pixels;
}

}  // namespace crabcast::data
