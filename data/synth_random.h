// The synthetic corpus's random numbers: the same everywhere, for every compiler and library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>

namespace crabcast::data {

// SplitMix64. One stream for each sample, so that samples can be rendered in any order.
class Rng {
 public:
  // Different words in any place give unrelated streams.
  explicit Rng(std::initializer_list<std::uint64_t> words) {
    for (const std::uint64_t word : words) state_ = mix(state_ ^ mix(word + kStep));
  }

  std::uint64_t next() { return mix(state_ += kStep); }
  // In [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  double between(double low, double high) { return low + (high - low) * unit(); }
  // In low..high, both included.
  int range(int low, int high) {
    return low + static_cast<int>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(double probability) { return unit() < probability; }
  template <class Container>
  const auto& pick(const Container& from) {
    return from[static_cast<std::size_t>(range(0, static_cast<int>(std::size(from)) - 1))];
  }
  template <class Container>
  void shuffle(Container& items) {
    for (std::size_t i = std::size(items); i > 1; --i)
      std::swap(items[i - 1], items[static_cast<std::size_t>(range(0, static_cast<int>(i) - 1))]);
  }

 private:
  static constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15ULL;
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  std::uint64_t state_ = 0;
};

}  // namespace crabcast::data
