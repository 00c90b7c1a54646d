// T-2: the sum over lanes does not depend on who computed which lanes.
#include "cluster/ordered_reduction.h"

#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "cluster/shards.h"

namespace crabcast::cluster {
namespace {

// All ranks in one process: a barrier, copies out of the others' buffers, a barrier.
class LocalGroup {
 public:
  explicit LocalGroup(std::uint32_t size) : barrier_(size), sends_(size) {}

  class Member final : public Collective {
   public:
    Member(LocalGroup& group, std::uint32_t rank) : group_(group), rank_(rank) {}
    [[nodiscard]] std::uint32_t rank() const override { return rank_; }
    [[nodiscard]] std::uint32_t size() const override {
      return static_cast<std::uint32_t>(group_.sends_.size());
    }
    Status all_to_all(std::span<const Buffer> send, std::span<const Buffer> receive) override {
      group_.sends_[rank_] = {send.begin(), send.end()};
      group_.barrier_.arrive_and_wait();
      bool fits = true;
      for (std::uint32_t peer = 0; peer < size(); ++peer) {
        const Buffer& from = group_.sends_[peer][rank_];
        fits = fits && from.bytes == receive[peer].bytes;
        if (fits && from.bytes > 0) std::memcpy(receive[peer].data, from.data, from.bytes);
      }
      group_.barrier_.arrive_and_wait();
      if (!fits) return fail(Errc::invalid_argument, "sizes differ");
      return {};
    }
    Status all_gather(const Buffer& send, std::span<const Buffer> receive) override {
      return all_to_all(std::vector<Buffer>(size(), send), receive);
    }
    Status all_reduce(const Buffer&) override { return fail(Errc::unsupported, "not needed"); }
    Status broadcast(const Buffer&, std::uint32_t) override {
      return fail(Errc::unsupported, "not needed");
    }
    void abort(const std::string&) override {}

   private:
    LocalGroup& group_;
    std::uint32_t rank_;
  };

 private:
  std::barrier<> barrier_;
  std::vector<std::vector<Buffer>> sends_;
};

using Lanes = std::vector<std::vector<float>>;

// Values of very different sizes and both signs: another order of additions gives other bits.
Lanes random_lanes(std::uint32_t lanes, std::size_t elements, std::mt19937& random) {
  std::uniform_real_distribution<float> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-12, 12);
  Lanes result(lanes, std::vector<float>(elements));
  for (auto& lane : result)
    for (float& value : lane) value = std::ldexp(mantissa(random), exponent(random));
  return result;
}

// The definition, written down once more and as plainly as possible.
std::vector<float> tree_sum(const Lanes& lanes, std::size_t first, std::size_t count) {
  if (count == 1) return lanes[first];
  const std::size_t left_count = count - count / 2;
  auto left = tree_sum(lanes, first, left_count);
  const auto right = tree_sum(lanes, first + left_count, count - left_count);
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = left[i] + right[i];
  return left;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

std::vector<std::vector<float>> sums_of(const Lanes& lanes, LaneRange owned, std::size_t elements) {
  SubtreeAccumulator accumulator(static_cast<std::uint32_t>(lanes.size()), owned, elements);
  for (std::uint32_t lane = owned.first; lane < owned.first + owned.count; ++lane)
    accumulator.add_lane(lanes[lane]);
  return accumulator.sums();
}

std::vector<std::vector<float>> reduced_by(const Lanes& lanes, const std::vector<LaneRange>& owned,
                                           std::size_t elements) {
  LocalGroup group(static_cast<std::uint32_t>(owned.size()));
  std::vector<std::vector<float>> results(owned.size(), std::vector<float>(elements, -1.0f));
  std::vector<std::thread> threads;
  for (std::uint32_t rank = 0; rank < owned.size(); ++rank)
    threads.emplace_back([&, rank] {
      LocalGroup::Member member(group, rank);
      const auto sums = sums_of(lanes, owned[rank], elements);
      const auto reduced = ordered_all_reduce(member, static_cast<std::uint32_t>(lanes.size()),
                                              owned, sums, results[rank]);
      EXPECT_TRUE(reduced) << reduced.error().message;
    });
  for (auto& thread : threads) thread.join();
  return results;
}

// Every way to cut `lanes` into contiguous parts, by the bits between neighbours.
void for_every_split(std::uint32_t lanes,
                     const std::function<void(const std::vector<LaneRange>&)>& visit) {
  for (std::uint32_t cuts = 0; cuts < 1u << (lanes - 1); ++cuts) {
    std::vector<LaneRange> split{{0, 0}};
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      ++split.back().count;
      if (lane + 1 < lanes && (cuts >> lane & 1)) split.push_back({lane + 1, 0});
    }
    visit(split);
  }
}

TEST(OrderedReduction, EverySplitGivesTheSameBits) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  int splits = 0;
  for (std::uint32_t lanes = 1; lanes <= 9; ++lanes) {
    // Not a multiple of a cache line or of the number of members.
    const std::size_t elements = 1 + random() % 300;
    const Lanes gradients = random_lanes(lanes, elements, random);
    const auto expected = tree_sum(gradients, 0, lanes);
    for_every_split(lanes, [&](const std::vector<LaneRange>& split) {
      for (const auto& result : reduced_by(gradients, split, elements))
        ASSERT_TRUE(same_bits(result, expected))
            << lanes << " lanes, " << split.size() << " members";
      ++splits;
    });
  }
  EXPECT_EQ(splits, 511);
}

TEST(OrderedReduction, TheOrderOfAdditionsMatters) {
  // Guards the test above: with these values a sum from left to right gives other bits.
  std::mt19937 random(1);
  const Lanes lanes = random_lanes(8, 256, random);
  std::vector<float> left_to_right = lanes[0];
  for (std::size_t lane = 1; lane < 8; ++lane)
    for (std::size_t i = 0; i < 256; ++i) left_to_right[i] += lanes[lane][i];
  EXPECT_FALSE(same_bits(left_to_right, tree_sum(lanes, 0, 8)));
}

TEST(OrderedReduction, RanksMayHoldLanesInAnyOrderOrNone) {
  std::mt19937 random(2);
  const Lanes lanes = random_lanes(5, 100, random);
  const auto expected = tree_sum(lanes, 0, 5);
  for (const auto& result : reduced_by(lanes, {{3, 2}, {0, 0}, {0, 3}}, 100))
    EXPECT_TRUE(same_bits(result, expected));
}

TEST(OrderedReduction, BlocksDoNotShow) {
  std::mt19937 random(4);
  const std::size_t elements = 2 * kReduceBlock + 35;
  const Lanes lanes = random_lanes(3, elements, random);
  const auto expected = tree_sum(lanes, 0, 3);
  for (const auto& result : reduced_by(lanes, {{0, 2}, {2, 1}}, elements))
    EXPECT_TRUE(same_bits(result, expected));
}

TEST(OrderedReduction, FewElementsAndNone) {
  std::mt19937 random(3);
  for (const std::size_t elements : {0u, 1u, 15u, 16u, 17u}) {
    const Lanes lanes = random_lanes(4, elements, random);
    const auto expected = tree_sum(lanes, 0, 4);
    for (const auto& result : reduced_by(lanes, {{0, 1}, {1, 2}, {3, 1}}, elements))
      EXPECT_TRUE(same_bits(result, expected)) << elements;
  }
}

TEST(OrderedReduction, WrongSplitsAreRefused) {
  LocalGroup group(1);
  LocalGroup::Member member(group, 0);
  std::vector<float> out(8);
  const std::vector<std::vector<float>> one(1, std::vector<float>(8));
  const auto code = [&](std::uint32_t lanes, const std::vector<LaneRange>& owned,
                        std::span<const std::vector<float>> sums) {
    const auto reduced = ordered_all_reduce(member, lanes, owned, sums, out);
    return reduced ? Errc::ok : reduced.error().code;
  };
  EXPECT_EQ(code(4, {{0, 4}}, one), Errc::ok);
  EXPECT_EQ(code(4, {{0, 3}}, one), Errc::invalid_argument) << "lane 3 is nobody's";
  EXPECT_EQ(code(4, {{0, 4}, {0, 4}}, one), Errc::invalid_argument) << "two ranks, one member";
  EXPECT_EQ(code(4, {{0, 4}}, {}), Errc::invalid_argument) << "no sums";
  const std::vector<std::vector<float>> short_sum(1, std::vector<float>(7));
  EXPECT_EQ(code(4, {{0, 4}}, short_sum), Errc::invalid_argument);
}

TEST(Subtrees, AreTheLargestInsideARange) {
  using Ranges = std::vector<LaneRange>;
  EXPECT_EQ(maximal_subtrees(8, {0, 8}), (Ranges{{0, 8}}));
  EXPECT_EQ(maximal_subtrees(8, {0, 6}), (Ranges{{0, 4}, {4, 2}}));
  EXPECT_EQ(maximal_subtrees(8, {1, 6}), (Ranges{{1, 1}, {2, 2}, {4, 2}, {6, 1}}));
  // Seven lanes: (0 1)(2 3) left, (4 5) 6 right.
  EXPECT_EQ(maximal_subtrees(7, {0, 4}), (Ranges{{0, 4}}));
  EXPECT_EQ(maximal_subtrees(7, {3, 4}), (Ranges{{3, 1}, {4, 3}}));
  EXPECT_EQ(maximal_subtrees(7, {2, 0}), Ranges{});
}

TEST(Subtrees, AccumulatorKeepsOneSumForEach) {
  std::mt19937 random(4);
  for (std::uint32_t lanes = 1; lanes <= 17; ++lanes) {
    const Lanes gradients = random_lanes(lanes, 37, random);
    for (std::uint32_t first = 0; first < lanes; ++first)
      for (std::uint32_t count = 1; first + count <= lanes; ++count) {
        const auto subtrees = maximal_subtrees(lanes, {first, count});
        const auto sums = sums_of(gradients, {first, count}, 37);
        ASSERT_EQ(sums.size(), subtrees.size());
        for (std::size_t i = 0; i < sums.size(); ++i)
          ASSERT_TRUE(same_bits(sums[i], tree_sum(gradients, subtrees[i].first, subtrees[i].count)))
              << lanes << " lanes, from " << first << ", " << count;
      }
  }
}

}  // namespace
}  // namespace crabcast::cluster
