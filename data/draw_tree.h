// Divides an endless row of draws among leaves in proportion to integer weights: exactly at the end
// of each cycle (as many draws as the sum of all weights), and within two draws of the exact share
// at any moment. Random access: nothing is counted on the way.
#pragma once

#include <cstdint>
#include <vector>

#include "data/permutation.h"

namespace crabcast::data {

class DrawTree {
 public:
  // Weights of the leaves, at least 1 each, below 2^62 in all. A branch is a list of leaves whose
  // common share is divided first; leaves are numbered through all branches.
  explicit DrawTree(const std::vector<std::vector<std::uint64_t>>& branches);

  struct Pick {
    std::uint32_t leaf = 0;
    std::uint64_t rank = 0;  // it is the leaf's draw number `rank`, from 0
  };
  [[nodiscard]] Pick pick(std::uint64_t n) const;  // n < 2^62
  // How many of the first n draws each leaf gets.
  [[nodiscard]] std::vector<std::uint64_t> counts(std::uint64_t n) const;

 private:
  // Of the first q draws of a cycle, floor(q * share / 2^64 + 1/2) go left and the rest right.
  struct Node {
    std::uint64_t share = 0;            // weight of the left side / weight of both * 2^64
    std::uint32_t left = 0, right = 0;  // another node, or kLeaf + a leaf
  };
  struct Part {
    std::uint64_t weight = 0;
    std::uint32_t id = 0;
  };
  static constexpr std::uint32_t kLeaf = 1U << 31;

  Part join(std::vector<Part> parts);

  std::vector<Node> nodes_;
  std::vector<std::uint64_t> weights_;  // of the leaves
  std::uint32_t root_ = 0;
  Divisor cycle_;
};

}  // namespace crabcast::data
