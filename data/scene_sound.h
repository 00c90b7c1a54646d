// The sound side of a synthetic scene: mono, 16 kHz.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/scene.h"
#include "data/synth_random.h"

namespace crabcast::data {

inline constexpr int kSoundRate = 16000;

// One second of a kind's timbre, made to be repeated without a seam; RMS about 0.12. `rng` varies
// the pitch by up to a semitone.
std::vector<float> timbre(Kind kind, Rng& rng);

class Waveform {
 public:
  // Almost silent: a noise floor of 0.0006 RMS, as every microphone has one.
  Waveform(double seconds, Rng& rng);

  // Repeats `loop` from `start` to `end` seconds, faded in and out over 10 ms inside the interval.
  void add_loop(std::span<const float> loop, double gain, double start, double end);
  // A tone whose frequency (Hz) and gain (0 to 1) may change with time; phase is continuous.
  // `harmonics`: gains of its multiples, the first is the tone itself.
  struct Tone {
    double frequency = 0, gain = 0;
  };
  void add_tone(const std::function<Tone(double time)>& tone, std::span<const double> harmonics);
  // White noise with a gain that changes with time.
  void add_noise(const std::function<double(double time)>& gain, Rng& rng);

  [[nodiscard]] double seconds() const;
  // Limited to -1 .. 1.
  [[nodiscard]] std::span<const float> samples();

 private:
  std::vector<float> samples_;
};

}  // namespace crabcast::data
