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
float* add_tree(LaneRange node, std::vector<Piece*>::const_iterator& next, std::size_t count) {
  if ((*next)->subtree == node) return (*next++)->sum.data();
  const auto [left, right] = halves(node);
  float* sum = add_tree(left, next, count);
  add_into(sum, add_tree(right, next, count), count);
  return sum;
}

// What every rank holds of the lanes' tree, and room for this rank's share of a block of each.
class Exchange {
 public:
  Exchange(std::uint32_t lanes, std::span<const LaneRange> owned) : lanes_(lanes) {
    for (const LaneRange range : owned) {
      auto& pieces = pieces_.emplace_back();
      for (const LaneRange subtree : maximal_subtrees(lanes, range))
        pieces.push_back({subtree, {}});
      rounds_ = std::max(rounds_, pieces.size());
    }
    for (auto& of_rank : pieces_)
      for (Piece& piece : of_rank) in_order_.push_back(&piece);
    std::sort(in_order_.begin(), in_order_.end(),
              [](const Piece* a, const Piece* b) { return a->subtree.first < b->subtree.first; });
  }

  [[nodiscard]] std::size_t subtrees_of(std::uint32_t rank) const { return pieces_[rank].size(); }

  // Round k moves everybody's k-th subtree sum, shard by shard, to the shards' owners, who add them
  // in tree order; then all gather the shards. The block is out[first, first + count).
  Status reduce(Collective& ranks, std::span<const std::vector<float>> my_sums,
                std::span<float> out, std::size_t first, std::size_t count) {
    const auto size = static_cast<std::uint32_t>(pieces_.size());
    const auto shard = [&](std::uint32_t rank) {
      const Shard part = shard_of(count, rank, size);
      return Shard{first + part.first, part.count};
    };
    const Shard mine = shard(ranks.rank());
    std::vector<Buffer> send(size), receive(size);
    for (std::size_t round = 0; round < rounds_; ++round) {
      for (std::uint32_t peer = 0; peer < size; ++peer) {
        const Shard theirs = shard(peer);
        send[peer] = round < my_sums.size()
                         ? floats(my_sums[round].data() + theirs.first, theirs.count)
                         : Buffer{};
        receive[peer] = {};
        if (round >= pieces_[peer].size()) continue;
        std::vector<float>& sum = pieces_[peer][round].sum;
        sum.resize(mine.count);
        receive[peer] = floats(sum.data(), mine.count);
      }
      CRABCAST_TRY(ranks.all_to_all(send, receive));
    }
    auto next = in_order_.cbegin();
    const float* const sum = add_tree({0, lanes_}, next, mine.count);
    for (std::uint32_t peer = 0; peer < size; ++peer)
      receive[peer] = floats(out.data() + shard(peer).first, shard(peer).count);
    return ranks.all_gather(floats(sum, mine.count), receive);
  }

 private:
  std::uint32_t lanes_;
  std::size_t rounds_ = 0;
  std::vector<std::vector<Piece>> pieces_;  // of each rank
  std::vector<Piece*> in_order_;
};

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
  Exchange exchange(lanes, owned);
  const std::size_t expected = exchange.subtrees_of(collective.rank());
  const auto right_size = [&out](const std::vector<float>& sum) {
    return sum.size() == out.size();
  };
  if (my_sums.size() != expected || !std::all_of(my_sums.begin(), my_sums.end(), right_size))
    return fail(Errc::invalid_argument, "rank " + std::to_string(collective.rank()) + " has " +
                                            std::to_string(my_sums.size()) +
                                            " subtree sums of its lanes; expected " +
                                            std::to_string(expected) + " of " +
                                            std::to_string(out.size()) + " elements each");
  for (std::size_t first = 0; first < out.size(); first += kReduceBlock)
    CRABCAST_TRY(exchange.reduce(collective, my_sums, out, first,
                                 std::min(kReduceBlock, out.size() - first)));
  return {};
}

}  // namespace crabcast::cluster
