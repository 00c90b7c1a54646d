#include "data/log_mel.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/fft_rfft.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <numbers>
#include <vector>

namespace crabcast::data {
namespace {

constexpr int kFrequencies = kMelWindow / 2 + 1;
constexpr double kRate = 16'000;

// Slaney's scale: linear up to 1 kHz, logarithmic above.
constexpr double kLinearHertz = 200.0 / 3;
constexpr double kKneeHertz = 1000;
constexpr double kKneeMel = kKneeHertz / kLinearHertz;
const double kLogStep = std::log(6.4) / 27;

double to_mel(double hertz) {
  return hertz < kKneeHertz ? hertz / kLinearHertz
                            : kKneeMel + std::log(hertz / kKneeHertz) / kLogStep;
}

double to_hertz(double mel) {
  return mel < kKneeMel ? mel * kLinearHertz : kKneeHertz * std::exp(kLogStep * (mel - kKneeMel));
}

at::Tensor hann_window() {
  auto window = at::empty({kMelWindow}, at::kFloat);
  auto* w = window.mutable_data_ptr<float>();
  for (int i = 0; i < kMelWindow; ++i)
    w[i] = static_cast<float>(0.5 - 0.5 * std::cos(2 * std::numbers::pi * i / double{kMelWindow}));
  return window;
}

// Filters are needed for every clip and cost more than a second of sound: kept once made.
const at::Tensor& kept_filters(int bins) {
  static std::mutex mutex;
  static std::map<int, at::Tensor> kept;
  const std::lock_guard lock(mutex);
  auto& filters = kept[bins];
  if (!filters.defined()) filters = mel_filters(bins);
  return filters;
}

// Half a window of the clip mirrored in front, silence behind for all windows that touch the clip.
at::Tensor framed(const at::Tensor& samples, std::int64_t frames) {
  const auto clip = samples.contiguous();
  const auto n = clip.size(0);
  const auto* from = clip.const_data_ptr<float>();
  auto padded = at::zeros({(frames - 1) * kMelHop + kMelWindow}, at::kFloat);
  auto* to = padded.mutable_data_ptr<float>();
  constexpr std::int64_t kHalf = kMelWindow / 2;
  for (std::int64_t i = 0; i < kHalf; ++i) {
    const auto mirrored = kHalf - i;
    to[i] = mirrored < n ? from[mirrored] : 0;
  }
  const auto kept = std::min(n, padded.size(0) - kHalf);
  std::memcpy(to + kHalf, from, static_cast<std::size_t>(kept) * sizeof(float));
  return padded.unfold(0, kMelWindow, kMelHop);
}

}  // namespace

at::Tensor mel_filters(int bins) {
  std::vector<double> edges;
  const double top = to_mel(kRate / 2);
  for (int i = 0; i < bins + 2; ++i) edges.push_back(to_hertz(top * i / (bins + 1)));
  auto filters = at::zeros({bins, kFrequencies}, at::kFloat);
  auto* weights = filters.mutable_data_ptr<float>();
  for (int band = 0; band < bins; ++band) {
    const auto b = static_cast<std::size_t>(band);
    const double low = edges[b], centre = edges[b + 1], high = edges[b + 2];
    for (int k = 0; k < kFrequencies; ++k) {
      const double hertz = kRate / 2 * k / (kFrequencies - 1);
      const double up = (hertz - low) / (centre - low), down = (high - hertz) / (high - centre);
      const double weight = std::max(0.0, std::min(up, down)) * 2 / (high - low);
      weights[band * kFrequencies + k] = static_cast<float>(weight);
    }
  }
  return filters;
}

at::Tensor log_mel(const at::Tensor& samples, int bins) {
  static const at::Tensor window = hann_window();
  const auto frames = mel_frames(samples.size(0));
  // Windows beyond the last frame still hear the end of the clip: they count for its maximum.
  const auto heard = mel_frames(samples.size(0) + kMelWindow / 2);
  const auto windows = framed(samples, heard).mul(window);
  const auto spectrum = at::fft_rfft(windows);  // [heard, 201]
  const auto power = at::view_as_real(spectrum).square().sum(-1);
  auto mel = at::matmul(kept_filters(bins), power.t()).clamp_min_(1e-10).log10_();
  const auto floor = mel.max().sub(8.0);
  mel = at::maximum(mel, floor).narrow(1, 0, frames);
  return mel.add(4.0).div_(4.0).contiguous();
}

}  // namespace crabcast::data
