// Sums over lanes in one fixed order, whoever computed them (invariant T-2; docs/architecture.md).
//
// The n lanes are the leaves of one binary tree, split at the middle (left gets the larger half)
// down to single lanes. A sum over lanes is the tree's sum: float32 additions, left + right, node
// by node. A member that holds the contiguous lanes [first, first + count) adds what lies inside
// whole subtrees itself, in tree order, and sends those subtree sums; the owner of a shard adds the
// rest of the tree. So the result is bitwise the same for every split of the lanes over members.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/collective.h"

namespace crabcast::cluster {

struct LaneRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  friend bool operator==(const LaneRange&, const LaneRange&) = default;
};

// The largest subtrees that lie inside `owned`, from left to right.
std::vector<LaneRange> maximal_subtrees(std::uint32_t lanes, LaneRange owned);

// Collects lane gradients in lane order and keeps one sum per maximal subtree; at most
// log2(lanes) + 1 partial sums are alive at a time. float32, host memory.
class SubtreeAccumulator {
 public:
  SubtreeAccumulator(std::uint32_t lanes, LaneRange owned, std::size_t elements);
  // The gradient of the next lane of `owned`, in order; `elements` floats, copied or added.
  void add_lane(std::span<const float> gradient);
  // Valid when all owned lanes were added: one vector for each of maximal_subtrees, in that order.
  [[nodiscard]] const std::vector<std::vector<float>>& sums() const { return sums_; }

 private:
  struct Partial {
    LaneRange range;
    std::vector<float> sum;
  };
  std::uint32_t lanes_;
  LaneRange owned_;
  std::size_t elements_;
  std::uint32_t next_;
  std::vector<Partial> partial_;
  std::vector<std::vector<float>> sums_;
};

// All ranks call it: exchanges shards of the subtree sums, adds them in tree order, gathers the
// result into `out` (`elements` floats) on every rank. `owned` lists every rank's lanes.
Status ordered_all_reduce(Collective& collective, std::uint32_t lanes,
                          std::span<const LaneRange> owned,
                          std::span<const std::vector<float>> my_sums, std::span<float> out);

}  // namespace crabcast::cluster
