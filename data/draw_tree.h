// Divides an endless row of draws among leaves in proportion to integer weights: exactly at the end
// of each cycle (as many draws as the sum of all weights), and within two draws of the exact share
// at any moment. Random access: what came before is not counted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/permutation.h"

namespace crabcast::data {

class DrawTree {
 public:
  // Weights of the leaves, at least 1 each, below 2^62 in all. A branch is a list of leaves whose
  // common share is divided first; leaves are numbered through all branches.
  explicit DrawTree(const std::vector<std::vector<std::uint64_t>>& branches);

  // Draws that one leaf gets: its own numbers first, first + 1, ... (from 0), in these places.
  struct Run {
    std::uint32_t leaf = 0;
    std::uint64_t first = 0;
    std::span<std::uint32_t> places;
  };
  // Appends the draws n, n + 1, ... below 2^62 for `places`, which are put into the order of runs.
  void divide(std::uint64_t n, std::span<std::uint32_t> places, std::vector<Run>& runs) const;
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

  struct Division;  // of places among the leaves

  Part join(std::vector<Part> parts);

  std::vector<Node> nodes_;
  std::vector<std::uint64_t> weights_;  // of the leaves
  std::uint32_t root_ = 0;
  Divisor cycle_;
};

}  // namespace crabcast::data
