// How a reduction cuts its elements over the members, and the addition itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace crabcast::cluster {

struct Shard {
  std::size_t first;
  std::size_t count;
};

// Reductions work through their elements in blocks of this many floats: what a block needs beside
// them stays in the processor's cache.
inline constexpr std::size_t kReduceBlock = 1 << 20;

// Rank `rank`'s part of `elements` floats; together the parts of all ranks are the whole. Parts
// start at cache lines, so that all but the last consist of whole vector blocks.
inline Shard shard_of(std::size_t elements, std::uint32_t rank, std::uint32_t size) {
  constexpr std::size_t kLine = 16;
  const std::size_t lines = (elements + kLine - 1) / kLine;
  const std::size_t begin = std::min(lines * rank / size * kLine, elements);
  const std::size_t end = std::min(lines * (rank + 1) / size * kLine, elements);
  return {begin, end - begin};
}

// sum[i] += other[i]; the arrays do not overlap. Blocks of a fixed size become vector instructions
// at -O2; each element is still added once, so no order of additions changes.
inline void add_into(float* __restrict sum, const float* __restrict other, std::size_t count) {
  constexpr std::size_t kBlock = 32;
  std::size_t i = 0;
  for (; i + kBlock <= count; i += kBlock)
    for (std::size_t j = 0; j < kBlock; ++j) sum[i + j] += other[i + j];
  for (; i < count; ++i) sum[i] += other[i];
}

}  // namespace crabcast::cluster
