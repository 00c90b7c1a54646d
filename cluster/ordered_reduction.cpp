#include "cluster/ordered_reduction.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <string>
#include <utility>

#include "cluster/shards.h"

namespace crabcast::cluster {
namespace {

std::uint32_t end_of(LaneRange range) {
  return range.first + range.count;
}

bool contains(LaneRange outer, LaneRange inner) {
  return outer.first <= inner.first && end_of(inner) <= end_of(outer);
}

// The two children of a tree node with more than one lane.
std::pair<LaneRange, LaneRange> halves(LaneRange node) {
  const std::uint32_t left = (node.count + 1) / 2;
  return {{node.first, left}, {node.first + left, node.count - left}};
}

void collect_subtrees(LaneRange node, LaneRange owned, std::vector<LaneRange>& found) {
  if (node.count == 0 || end_of(node) <= owned.first || end_of(owned) <= node.first) return;
  if (contains(owned, node)) {
    found.push_back(node);
    return;
  }
  const auto [left, right] = halves(node);
  collect_subtrees(left, owned, found);
  collect_subtrees(right, owned, found);
}

// True when `left` and `right` are the two children of one node of the tree over `lanes`.
bool are_siblings(std::uint32_t lanes, LaneRange left, LaneRange right) {
  LaneRange node{0, lanes};
  while (node.count > 1) {
    const auto [a, b] = halves(node);
    if (a == left && b == right) return true;
    if (contains(a, left))
      node = a;
    else if (contains(b, left))
      node = b;
    else
      return false;
  }
  return false;
}

Buffer floats(const float* data, std::size_t count) {
  // Operations do not write to what they send.
  return {const_cast<float*>(data), count * sizeof(float), ElementType::float32, MemoryKind::host};
}

// One rank's share of one subtree's sum.
struct Piece {
  LaneRange subtree;
  std::vector<float> sum;
};

// Adds the pieces of `node` in tree order into its leftmost piece, and returns it. Pieces are
// sorted by lane and cover the node.
float* add_tree(LaneRange node, std::vector<Piece*>::iterator& next, std::size_t count) {
  if ((*next)->subtree == node) return (*next++)->sum.data();
  const auto [left, right] = halves(node);
  float* sum = add_tree(left, next, count);
  add_into(sum, add_tree(right, next, count), count);
  return sum;
}

Status check_split(std::uint32_t lanes, std::span<const LaneRange> owned, const Collective& ranks) {
  if (owned.size() != ranks.size())
    return fail(Errc::invalid_argument, "lanes are given for " + std::to_string(owned.size()) +
                                            " ranks, the communicator has " +
                                            std::to_string(ranks.size()));
  std::vector<LaneRange> sorted(owned.begin(), owned.end());
  std::erase_if(sorted, [](LaneRange range) { return range.count == 0; });
  std::sort(sorted.begin(), sorted.end(),
            [](LaneRange a, LaneRange b) { return a.first < b.first; });
  std::uint32_t next = 0;
  for (const LaneRange range : sorted) {
    if (range.first != next) break;
    next = end_of(range);
  }
  if (lanes == 0 || next != lanes)
    return fail(Errc::invalid_argument,
                "the members' lanes do not cover each of " + std::to_string(lanes) + " lanes once");
  return {};
}

}  // namespace

std::vector<LaneRange> maximal_subtrees(std::uint32_t lanes, LaneRange owned) {
  std::vector<LaneRange> found;
  collect_subtrees({0, lanes}, owned, found);
  return found;
}

SubtreeAccumulator::SubtreeAccumulator(std::uint32_t lanes, LaneRange owned, std::size_t elements)
    : lanes_(lanes), owned_(owned), elements_(elements), next_(owned.first) {}

void SubtreeAccumulator::add_lane(std::span<const float> gradient) {
  assert(gradient.size() == elements_ && next_ < end_of(owned_));
  LaneRange node{next_++, 1};
  const auto completes = [this](LaneRange right) {
    // Siblings whose parent is not owned as a whole belong to two sums.
    return !partial_.empty() && are_siblings(lanes_, partial_.back().range, right);
  };
  if (completes(node)) {
    // A right leaf goes straight into its sibling, without a copy.
    Partial& left = partial_.back();
    add_into(left.sum.data(), gradient.data(), elements_);
    left.range.count += 1;
  } else {
    partial_.push_back({node, {gradient.begin(), gradient.end()}});
  }
  while (partial_.size() > 1) {
    Partial& right = partial_.back();
    Partial& left = partial_[partial_.size() - 2];
    if (!are_siblings(lanes_, left.range, right.range)) break;
    add_into(left.sum.data(), right.sum.data(), elements_);
    left.range.count += right.range.count;
    partial_.pop_back();
  }
  if (next_ != end_of(owned_)) return;
  for (Partial& partial : partial_) sums_.push_back(std::move(partial.sum));
  partial_.clear();
}

Status ordered_all_reduce(Collective& collective, std::uint32_t lanes,
                          std::span<const LaneRange> owned,
                          std::span<const std::vector<float>> my_sums, std::span<float> out) {
  CRABCAST_TRY(check_split(lanes, owned, collective));
  const std::uint32_t size = collective.size(), rank = collective.rank();
  std::vector<std::vector<LaneRange>> subtrees;
  std::size_t rounds = 0;
  for (const LaneRange range : owned) {
    subtrees.push_back(maximal_subtrees(lanes, range));
    rounds = std::max(rounds, subtrees.back().size());
  }
  const auto right_size = [&out](const std::vector<float>& sum) {
    return sum.size() == out.size();
  };
  if (my_sums.size() != subtrees[rank].size() ||
      !std::all_of(my_sums.begin(), my_sums.end(), right_size))
    return fail(Errc::invalid_argument, "rank " + std::to_string(rank) + " has " +
                                            std::to_string(my_sums.size()) +
                                            " subtree sums of its lanes; expected " +
                                            std::to_string(subtrees[rank].size()) + " of " +
                                            std::to_string(out.size()) + " elements each");

  // Exchange: round k moves everybody's k-th subtree sum, shard by shard, to the shards' owners.
  const Shard mine = shard_of(out.size(), rank, size);
  std::vector<std::vector<Piece>> pieces(size);
  for (std::size_t round = 0; round < rounds; ++round) {
    std::vector<Buffer> send(size), receive(size);
    for (std::uint32_t peer = 0; peer < size; ++peer) {
      if (round < my_sums.size()) {
        const Shard shard = shard_of(out.size(), peer, size);
        send[peer] = floats(my_sums[round].data() + shard.first, shard.count);
      }
      if (round < subtrees[peer].size()) {
        pieces[peer].push_back({subtrees[peer][round], std::vector<float>(mine.count)});
        receive[peer] = floats(pieces[peer].back().sum.data(), mine.count);
      }
    }
    CRABCAST_TRY(collective.all_to_all(send, receive));
  }

  std::vector<Piece*> in_order;
  for (auto& of_rank : pieces)
    for (Piece& piece : of_rank) in_order.push_back(&piece);
  std::sort(in_order.begin(), in_order.end(),
            [](const Piece* a, const Piece* b) { return a->subtree.first < b->subtree.first; });
  auto next = in_order.begin();
  const float* sum = add_tree({0, lanes}, next, mine.count);

  std::vector<Buffer> gathered(size);
  for (std::uint32_t peer = 0; peer < size; ++peer) {
    const Shard shard = shard_of(out.size(), peer, size);
    gathered[peer] = floats(out.data() + shard.first, shard.count);
  }
  return collective.all_gather(floats(sum, mine.count), gathered);
}

}  // namespace crabcast::cluster
