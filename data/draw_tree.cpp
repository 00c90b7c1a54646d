#include "data/draw_tree.h"

#include <algorithm>
#include <array>
#include <utility>

namespace crabcast::data {
namespace {

__extension__ using Wide = unsigned __int128;

// floor(q * share / 2^64 + 1/2). For share = floor(a * 2^64 / n) and q <= n < 2^63 this rises by 0
// or 1 with each q, is 0 at 0 and a at n.
constexpr std::uint64_t left_count(std::uint64_t q, std::uint64_t share) {
  return static_cast<std::uint64_t>((static_cast<Wide>(q) * share + (Wide{1} << 63)) >> 64);
}

}  // namespace

DrawTree::DrawTree(const std::vector<std::vector<std::uint64_t>>& branches) {
  std::vector<Part> joined;
  for (const auto& branch : branches) {
    std::vector<Part> leaves;
    for (const auto weight : branch) {
      leaves.push_back({weight, kLeaf + static_cast<std::uint32_t>(weights_.size())});
      weights_.push_back(weight);
    }
    joined.push_back(join(std::move(leaves)));
  }
  const auto root = join(std::move(joined));
  root_ = root.id;
  cycle_ = Divisor(root.weight);
}

// Huffman's tree: the two smallest are joined first, so large parts sit near the root, where
// rounding is least, and the mean number of levels a draw descends is as small as it can be.
DrawTree::Part DrawTree::join(std::vector<Part> parts) {
  while (parts.size() > 1) {
    std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
    });
    const Part right = parts.back();
    parts.pop_back();
    const Part left = parts.back();
    parts.pop_back();
    const std::uint64_t both = left.weight + right.weight;
    const auto share = static_cast<std::uint64_t>((static_cast<Wide>(left.weight) << 64) / both);
    parts.push_back({both, static_cast<std::uint32_t>(nodes_.size())});
    nodes_.push_back({share, left.id, right.id});
  }
  return parts.front();
}

// Divides a few places of one cycle: all at once at each node, so that a node costs an addition for
// each place.
struct DrawTree::Division {
  static constexpr std::size_t kMostPlaces = 64;

  const DrawTree& tree;
  std::uint64_t cycle;
  std::vector<Run>& runs;

  // `rank`: how many draws of the cycle came to this node before.
  void divide(std::uint32_t at, std::uint64_t rank, std::span<std::uint32_t> places) const {
    if (places.empty()) return;
    if (at >= kLeaf) {
      const std::uint32_t leaf = at - kLeaf;
      runs.push_back({leaf, cycle * tree.weights_[leaf] + rank, places});
      return;
    }
    const Node& node = tree.nodes_[at];
    std::array<std::uint32_t, kMostPlaces> to_the_right;
    std::size_t left = 0, right = 0;
    // The part of left_count's sum below 2^64: where it overflows the count rises.
    std::uint64_t fraction = rank * node.share + (1ULL << 63);
    for (const std::uint32_t place : places) {
      fraction += node.share;
      const bool goes_left = fraction < node.share;
      places[left] = to_the_right[right] = place;
      left += goes_left ? 1 : 0;
      right += goes_left ? 0 : 1;
    }
    std::copy_n(to_the_right.begin(), right, places.begin() + static_cast<std::ptrdiff_t>(left));
    const std::uint64_t before = left_count(rank, node.share);
    divide(node.left, before, places.first(left));
    divide(node.right, rank - before, places.subspan(left));
  }
};

void DrawTree::divide(std::uint64_t n, std::span<std::uint32_t> places,
                      std::vector<Run>& runs) const {
  while (!places.empty()) {
    const auto [cycle, rank] = cycle_.divide(n);
    const std::size_t count = std::min({places.size(), cycle_.value - rank, Division::kMostPlaces});
    Division{*this, cycle, runs}.divide(root_, rank, places.first(count));
    places = places.subspan(count);
    n += count;
  }
}

std::vector<std::uint64_t> DrawTree::counts(std::uint64_t n) const {
  const auto [cycle, rest] = cycle_.divide(n);
  std::vector<std::uint64_t> counts(weights_.size());
  std::vector<std::pair<std::uint32_t, std::uint64_t>> open = {{root_, rest}};
  while (!open.empty()) {
    const auto [at, draws] = open.back();
    open.pop_back();
    if (at >= kLeaf) {
      counts[at - kLeaf] = cycle * weights_[at - kLeaf] + draws;
      continue;
    }
    const std::uint64_t left = left_count(draws, nodes_[at].share);
    open.emplace_back(nodes_[at].left, left);
    open.emplace_back(nodes_[at].right, draws - left);
  }
  return counts;
}

}  // namespace crabcast::data
