// A seeded permutation with random access: a Feistel network with cycle walking. Only integers are
// computed: the same on every machine.
#pragma once

#include <cstdint>
#include <span>

namespace crabcast::data {

// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
constexpr std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  return mix(mix(a + 0x9E3779B97F4A7C15ULL) ^ b);
}
// x scaled from [0, 2^32) to [0, limit): a remainder without a division.
constexpr std::uint64_t scaled(std::uint64_t x, std::uint64_t limit) {
  return (x * limit) >> 32;
}

// Division by a number that stays the same: a multiplication and at most one correction.
struct Divisor {
  std::uint64_t value = 1, reciprocal = ~0ULL;  // floor((2^64 - 1) / value)
  Divisor() = default;
  explicit Divisor(std::uint64_t divisor) : value(divisor), reciprocal(~0ULL / divisor) {}
  struct Parts {
    std::uint64_t quotient, remainder;
  };
  [[nodiscard]] Parts divide(std::uint64_t n) const {  // n < 2^63
    __extension__ using Wide = unsigned __int128;
    const auto estimate = static_cast<std::uint64_t>((static_cast<Wide>(n) * reciprocal) >> 64);
    const std::uint64_t rest = n - estimate * value;  // below 2 * value
    const std::uint64_t more = rest >= value ? 1 : 0;
    return {estimate + more, rest - (more != 0 ? value : 0)};
  }
};

// Another order of 0 .. samples - 1 for each epoch.
class Permutation {
 public:
  Permutation(std::uint64_t samples, std::uint64_t key);

  // Asks which sample has a rank in the order of an epoch.
  struct Query {
    const Permutation* order;
    std::uint64_t epoch;
    std::uint64_t rank;  // and then the sample
  };
  static void answer(std::span<Query> queries);

 private:
  class Pass;
  static constexpr std::size_t kTogether = 8;

  [[nodiscard]] std::uint64_t walk(std::uint64_t epoch_key, std::uint64_t cell) const;
  static void answer_together(std::span<Query, kTogether> queries);

  std::uint64_t samples_;
  std::uint64_t rows_;  // the network permutes rows x columns >= samples
  Divisor columns_;
  std::uint64_t rounds_, key_;
};

}  // namespace crabcast::data
