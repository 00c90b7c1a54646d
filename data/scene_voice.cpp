#include "data/scene_voice.h"

#include <array>
#include <cmath>
#include <numbers>

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr std::size_t kHarmonics = 14;

// Strength of each harmonic of a voice at `pitch` Hz, of unit energy.
std::array<double, kHarmonics> harmonics_of(Timbre timbre, double pitch) {
  std::array<double, kHarmonics> harmonics{};
  double energy = 0;
  for (std::size_t k = 0; k < kHarmonics; ++k) {
    const double number = static_cast<double>(k + 1), hertz = pitch * number;
    const auto near = [&](double formant, double width) {
      return std::exp(-(hertz - formant) * (hertz - formant) / (2 * width * width));
    };
    switch (timbre) {
      case Timbre::clear:
        harmonics[k] = 0.35 / number + near(600, 200) + 0.5 * near(1500, 250);
        break;
      case Timbre::breathy:
        harmonics[k] = std::pow(number, -2.5);
        break;
      case Timbre::rough:
        harmonics[k] = 0.5 / std::sqrt(number) + near(900, 300);
        break;
      case Timbre::humming:
        harmonics[k] = k < 2 ? 1 / number : 0;
        break;
    }
    energy += harmonics[k] * harmonics[k];
  }
  for (double& h : harmonics) h /= std::sqrt(energy);
  return harmonics;
}

}  // namespace

Waveform speak(Contour contour, Timbre timbre, const Person& person, const Level& level, Rng& rng) {
  constexpr double kGlide = 0.7;  // octaves in a syllable
  constexpr double kCreak = 43;   // Hz
  Waveform wave(kFaceSeconds, rng);
  const double pace = rng.between(1.8, 4.2), loudness = rng.between(0.15, 0.4);
  const double pitch = 165 * person.pitch * std::exp2(rng.between(-0.25, 0.25));
  const double hiss = rng.between(0, level.hiss) * std::numbers::sqrt3;
  const auto syllables = [&](double t) { return pace * t + person.first_syllable; };
  const auto share = [&](double t) { return syllables(t) - std::floor(syllables(t)); };
  const auto open = [&](double t) {
    return share(t) < 0.75 ? std::sin(std::numbers::pi * share(t) / 0.75) : 0;
  };
  const auto glide = [&](double t) {
    switch (contour) {
      case Contour::level:
        return 0.0;
      case Contour::rising:
        return kGlide;
      case Contour::falling:
        return -kGlide;
      case Contour::wavering:
        break;
    }
    return std::fmod(std::floor(syllables(t)), 2) == 0 ? kGlide : -kGlide;
  };
  wave.add_tone(
      [&](double t) {
        const double creak = timbre == Timbre::rough ? 0.6 + 0.4 * std::sin(kTurn * kCreak * t) : 1;
        return Waveform::Tone{pitch * std::exp2(glide(t) * (share(t) - 0.4)),
                              loudness * creak * open(t)};
      },
      harmonics_of(timbre, pitch));
  const double breath = timbre == Timbre::breathy ? 0.5 * loudness
                        : timbre == Timbre::rough ? 0.15 * loudness
                                                  : 0;
  wave.add_noise([&](double t) { return hiss + breath * open(t); }, rng);
  return wave;
}

}  // namespace crabcast::data
