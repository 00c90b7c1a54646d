#include "data/scene_sound.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr double kLoudness = 0.12, kPeak = 0.95;

// A second of sound whose end meets its beginning: what runs over the end is added at the start.
class Loop {
 public:
  void add(std::size_t at, double value) {
    samples_[at % samples_.size()] += static_cast<float>(value);
  }
  // A sine of whole Hz that fades away from `start` seconds on.
  void strike(double start, double hertz, double gain, double fade_seconds) {
    const auto first = static_cast<std::size_t>(start * kSoundRate);
    const auto length = static_cast<std::size_t>(fade_seconds * 6 * kSoundRate);
    const double decay = std::exp(-1 / (fade_seconds * kSoundRate));
    for (std::size_t i = 0; i < length; ++i, gain *= decay)
      add(first + i, gain * std::sin(kTurn * hertz * static_cast<double>(i) / kSoundRate));
  }
  template <class Value>
  void fill(const Value& value) {
    for (std::size_t i = 0; i < samples_.size(); ++i)
      add(i, value(static_cast<double>(i) / kSoundRate));
  }
  std::vector<float> normalised() {
    double energy = 0, peak = 0;
    for (const float s : samples_) {
      energy += double(s) * s;
      peak = std::max(peak, double(std::abs(s)));
    }
    const double rms = std::sqrt(energy / double(samples_.size()));
    const double gain = std::min(kLoudness / rms, kPeak / peak);
    for (float& s : samples_) s = static_cast<float>(s * gain);
    return std::move(samples_);
  }

 private:
  std::vector<float> samples_ = std::vector<float>(kSoundRate);
};

void drum(Loop& loop, double pitch, Rng& rng) {
  for (const double start : {0.0, 0.5}) {
    loop.strike(start, std::round(82 * pitch), 1.0, 0.07);
    loop.strike(start, std::round(131 * pitch), 0.5, 0.04);
    for (int i = 0; i < 800; ++i)
      loop.add(static_cast<std::size_t>(start * kSoundRate) + static_cast<std::size_t>(i),
               0.5 * rng.between(-1, 1) * std::exp(-i / 160.0));
  }
}

void bell(Loop& loop, double pitch) {
  constexpr std::array<std::array<double, 2>, 4> kPartials = {
      {{1, 1}, {2.0, 0.6}, {2.76, 0.45}, {5.4, 0.2}}};
  for (const double start : {0.0, 0.5})
    for (const auto& [multiple, gain] : kPartials)
      loop.strike(start, std::round(880 * pitch * multiple), gain, 0.16);
}

void flute(Loop& loop, double pitch) {
  const double base = std::round(587 * pitch);
  loop.fill([&](double t) {
    const double phase = kTurn * base * t + 1.2 * std::sin(kTurn * 5 * t);
    return std::sin(phase) + 0.18 * std::sin(2 * phase) + 0.05 * std::sin(3 * phase);
  });
}

void horn(Loop& loop, double pitch) {
  const double base = std::round(220 * pitch);
  loop.fill([&](double t) {
    double sum = 0;
    for (int k = 1; k <= 8; ++k) sum += std::sin(kTurn * base * k * t) / k;
    return sum * (0.75 + 0.25 * std::sin(kTurn * t));
  });
}

void siren(Loop& loop, double pitch) {
  const double middle = std::round(800 * pitch);
  loop.fill([&](double t) {
    // Sweeps from 450 to 1150 Hz and back in a second: the phase swing is 350 Hz / 1 Hz.
    return std::sin(kTurn * middle * t - 350 * std::cos(kTurn * t));
  });
}

void clock_ticks(Loop& loop, double pitch) {
  for (int tick = 0; tick < 4; ++tick)
    loop.strike(tick / 4.0, std::round((tick % 2 == 0 ? 2600 : 2100) * pitch), 1, 0.012);
}

void motor(Loop& loop, double pitch) {
  const double base = std::round(62 * pitch);
  loop.fill([&](double t) {
    double sum = 0;
    for (int k = 1; k <= 15; k += 2) sum += std::sin(kTurn * base * k * t) / std::sqrt(k);
    return sum * (0.7 + 0.3 * std::sin(kTurn * 12 * t));
  });
}

void bird(Loop& loop, double pitch) {
  constexpr double kLength = 0.14;
  for (const double start : {0.02, 0.32, 0.66})
    for (int i = 0; i < int(kLength * kSoundRate); ++i) {
      const double t = double(i) / kSoundRate, share = t / kLength;
      const double window = std::sin(std::numbers::pi * share);
      const double phase = kTurn * pitch * (2600 * t + 0.5 * 12000 * t * t);
      loop.add(static_cast<std::size_t>(start * kSoundRate) + static_cast<std::size_t>(i),
               window * window * std::sin(phase));
    }
}

}  // namespace

std::vector<float> timbre(Kind kind, Rng& rng) {
  const double pitch = std::exp2(rng.between(-1, 1) / 12);
  Loop loop;
  switch (kind) {
    case Kind::drum:
      drum(loop, pitch, rng);
      break;
    case Kind::bell:
      bell(loop, pitch);
      break;
    case Kind::flute:
      flute(loop, pitch);
      break;
    case Kind::horn:
      horn(loop, pitch);
      break;
    case Kind::siren:
      siren(loop, pitch);
      break;
    case Kind::clock:
      clock_ticks(loop, pitch);
      break;
    case Kind::motor:
      motor(loop, pitch);
      break;
    case Kind::bird:
      bird(loop, pitch);
      break;
  }
  return loop.normalised();
}

Waveform::Waveform(double seconds, Rng& rng)
    : samples_(static_cast<std::size_t>(std::lround(seconds * kSoundRate))) {
  for (float& s : samples_) s = static_cast<float>(0.001 * (2 * rng.unit() - 1));
}

void Waveform::add_loop(std::span<const float> loop, double gain, double start, double end) {
  const auto at = [&](double t) {
    return std::min(samples_.size(), static_cast<std::size_t>(std::lround(t * kSoundRate)));
  };
  const std::size_t first = at(start), last = at(end);
  constexpr double kFade = 0.010 * kSoundRate;
  for (std::size_t i = first; i < last; ++i) {
    const double edge = static_cast<double>(std::min(i - first, last - 1 - i));
    samples_[i] += static_cast<float>(gain * std::min(1.0, edge / kFade) * loop[i % loop.size()]);
  }
}

void Waveform::add_tone(const std::function<Tone(double)>& tone,
                        std::span<const double> harmonics) {
  // The tone is asked for every millisecond and drawn straight in between.
  constexpr std::size_t kHop = kSoundRate / 1000;
  double phase = 0;
  Tone now = tone(0);
  for (std::size_t first = 0; first < samples_.size(); first += kHop) {
    const Tone next = tone(static_cast<double>(first + kHop) / kSoundRate);
    const bool silent = now.gain <= 0 && next.gain <= 0;
    const std::size_t last = std::min(samples_.size(), first + kHop);
    for (std::size_t i = first; i < last; ++i) {
      const double share = static_cast<double>(i - first) / kHop;
      phase += (now.frequency + (next.frequency - now.frequency) * share) / kSoundRate;
      if (silent) continue;
      // sin((k + 1) a) = 2 cos(a) sin(k a) - sin((k - 1) a): two calls for any number of harmonics.
      const double twice_cosine = 2 * std::cos(kTurn * phase);
      double before = 0, sine = std::sin(kTurn * phase), sum = 0;
      for (const double harmonic : harmonics) {
        sum += harmonic * sine;
        before = std::exchange(sine, twice_cosine * sine - before);
      }
      samples_[i] += static_cast<float>((now.gain + (next.gain - now.gain) * share) * sum);
    }
    phase -= std::floor(phase);
    now = next;
  }
}

void Waveform::add_noise(const std::function<double(double)>& gain, Rng& rng) {
  constexpr std::size_t kHop = kSoundRate / 1000;
  for (std::size_t first = 0; first < samples_.size(); first += kHop) {
    const double level = gain(static_cast<double>(first) / kSoundRate);
    if (level <= 0) continue;
    const std::size_t last = std::min(samples_.size(), first + kHop);
    for (std::size_t i = first; i < last; ++i)
      samples_[i] += static_cast<float>(level * (2 * rng.unit() - 1));
  }
}

double Waveform::seconds() const {
  return static_cast<double>(samples_.size()) / kSoundRate;
}

std::span<const float> Waveform::samples() {
  for (float& s : samples_) s = std::clamp(s, -1.0F, 1.0F);
  return samples_;
}

}  // namespace crabcast::data
