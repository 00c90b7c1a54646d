// Sound to the log-mel spectrogram that the audio tower takes (Whisper's, with 128 bands).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace crabcast::data {

inline constexpr int kMelWindow = 400;  // samples of a window and of its Fourier transform
inline constexpr int kMelHop = 160;     // samples from one frame to the next: 10 ms

// Frames of a clip: one for each started hop.
constexpr std::int64_t mel_frames(std::int64_t samples) {
  return (samples + kMelHop - 1) / kMelHop;
}

// float32 [n], n >= 1, mono at 16 kHz, to float32 [bins, mel_frames(n)]: Hann windows centred on
// each hop, reflected before the start and silent after the end; power; mel bands on Slaney's scale
// with Slaney's norm; log10, at least 8 below the clip's own maximum; (x + 4) / 4. Only the clip's
// own frames: nothing is padded. Thread-safe.
at::Tensor log_mel(const at::Tensor& samples, int bins);

// float32 [bins, 201]: the weight of each frequency of the transform in each band.
at::Tensor mel_filters(int bins);

}  // namespace crabcast::data
