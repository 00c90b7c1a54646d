// Random numbers as a pure function of a key and an index.
//
// Weights, adapter initialization and dropout masks must have the same bits on every machine, for
// any order of construction and after any restart. So there is no generator with a state, and no
// library function (logarithm, cosine) whose last bit differs from one C library or processor to
// the next: only integer arithmetic and one exactly rounded product.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace crabcast::model {

inline constexpr std::uint64_t kGoldenGamma = 0x9E3779B97F4A7C15ULL;

// The finalizer of SplitMix64: a bijection that spreads every bit of its input.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// 64 random bits: element `index` of the SplitMix64 stream that starts at `key`.
constexpr std::uint64_t random_bits(std::uint64_t key, std::uint64_t index) {
  return mix64(key + (index + 1) * kGoldenGamma);
}

// A new key from a key and a number; combine_key(combine_key(k, a), b) differs from (k, b), (b, a).
constexpr std::uint64_t combine_key(std::uint64_t key, std::uint64_t value) {
  return mix64(mix64(key) + mix64(value + kGoldenGamma));
}

// A key from a name (FNV-1a, then mixed).
constexpr std::uint64_t name_key(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return mix64(hash);
}

// Uniform in (-1, 1), symmetric, never 0: an odd multiple of 2^-53.
constexpr double symmetric_uniform(std::uint64_t bits) {
  return static_cast<double>(2 * (static_cast<std::int64_t>(bits) >> 11) + 1) * 0x1p-53;
}

// Overwrites a contiguous float32 tensor on the host with uniform numbers in (-bound, bound).
void fill_uniform(const at::Tensor& tensor, std::uint64_t key, double bound);

}  // namespace crabcast::model
