// The collective over NCCL computes what its interface promises, and the same as the one over
// ZeroMQ, on host and device memory.
#include "cluster/nccl/nccl_collective.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "cluster/ordered_reduction.h"
#include "tests/nccl/nccl_cast.h"
#include "tests/nccl/shared_memory_nccl.h"

namespace crabcast::nccl_test {
namespace {

class Nccl : public ::testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, Nccl, ::testing::Values(2U, 3U, 4U));

TEST_P(Nccl, AllToAll) {
  run_ranks(GetParam(), [](Collective& ranks) {
    // The second one finds its device memory there.
    for (int round = 0; round < 2; ++round) cluster::exchange_parcels(ranks, 900'001);
  });
  EXPECT_EQ(allocations_on_device(), 0U);
}

TEST_P(Nccl, AllGatherOfPartsOfDifferentSizes) {
  run_ranks(GetParam(), cluster::gather_parts);
}

// Equal parts side by side on the device go through ncclAllGather, all else through a group.
TEST_P(Nccl, AllGatherOnTheDevice) {
  run_ranks(GetParam(), [](Collective& ranks) {
    constexpr std::size_t kPart = 30'000;
    for (const bool side_by_side : {true, false}) {
      const OnDevice mine(kPart, static_cast<float>(ranks.rank() + 1));
      const OnDevice all(ranks.size() * kPart, 0);
      std::vector<Buffer> receive;
      for (std::uint32_t peer = 0; peer < ranks.size(); ++peer)
        receive.push_back(all.part((side_by_side ? peer : ranks.size() - 1 - peer) * kPart, kPart));
      const auto gathered = ranks.all_gather(mine.buffer(), receive);
      ASSERT_TRUE(gathered) << gathered.error().message;
      for (std::uint32_t peer = 0; peer < ranks.size(); ++peer)
        for (const std::size_t i : {std::size_t{0}, kPart - 1})
          EXPECT_EQ(static_cast<float*>(receive[peer].data)[i], static_cast<float>(peer + 1));
    }
  });
}

TEST_P(Nccl, AllReduceInHostAndDeviceMemory) {
  run_ranks(GetParam(), [](Collective& ranks) {
    const std::uint32_t n = ranks.size();
    for (const std::size_t elements : {1U, 5U, 100'003U}) {
      // Whole numbers, so that the sum is exact in any order.
      std::vector<float> values(elements);
      for (std::size_t i = 0; i < elements; ++i)
        values[i] = static_cast<float>(i % 1000 + ranks.rank());
      const auto reduced = ranks.all_reduce(floats(values));
      ASSERT_TRUE(reduced) << reduced.error().message;
      for (std::size_t i = 0; i < elements; ++i)
        ASSERT_EQ(values[i], static_cast<float>(i % 1000 * n + n * (n - 1) / 2)) << i;

      const OnDevice device(elements, static_cast<float>(ranks.rank()));
      ASSERT_TRUE(ranks.all_reduce(device.buffer()));
      EXPECT_EQ(device[elements - 1], static_cast<float>(n * (n - 1) / 2));
    }
  });
}

TEST_P(Nccl, BroadcastFromEachRankInEachType) {
  run_ranks(GetParam(), [](Collective& ranks) {
    for (const auto type :
         {ElementType::float32, ElementType::bfloat16, ElementType::int64, ElementType::uint8})
      for (std::uint32_t root = 0; root < ranks.size(); ++root) {
        std::vector<std::int64_t> values(20'000, ranks.rank());
        const auto sent = ranks.broadcast(buffer_of(values, type), root);
        ASSERT_TRUE(sent) << sent.error().message;
        EXPECT_EQ(values, std::vector<std::int64_t>(20'000, root));
      }
    std::vector<float> values(4);
    EXPECT_EQ(ranks.broadcast(floats(values), ranks.size()).error().code, Errc::invalid_argument);
  });
}

TEST_P(Nccl, RefusesWhatItCannotDoAndGoesOn) {
  run_ranks(GetParam(), [](Collective& ranks) {
    std::vector<std::uint8_t> bytes(4);
    EXPECT_EQ(ranks.all_reduce(buffer_of(bytes)).error().code, Errc::invalid_argument);
    const std::vector<Buffer> too_few(ranks.size() - 1);
    EXPECT_EQ(ranks.all_to_all(too_few, too_few).error().code, Errc::invalid_argument);
    std::vector<float> one(1, 1);
    ASSERT_TRUE(ranks.all_reduce(floats(one)));
    EXPECT_EQ(one[0], static_cast<float>(ranks.size()));
  });
}

TEST_P(Nccl, ClosesInOrder) {
  const Endings before = endings();
  run_ranks(GetParam(), [](Collective& ranks) {
    std::vector<float> one(1, 1);
    ASSERT_TRUE(ranks.all_reduce(floats(one)));
  });
  EXPECT_EQ(endings().finalized - before.finalized, static_cast<int>(GetParam()));
  EXPECT_EQ(endings().aborted, before.aborted);
}

// ---- The same as over ZeroMQ --------------------------------------------------------------------

using Sums = std::vector<std::vector<float>>;  // of each rank

std::vector<float> gradient_of_lane(std::uint32_t lane) {
  std::mt19937 random(lane + 1);
  std::uniform_real_distribution<float> values(-1, 1);
  std::vector<float> gradient(50'021);
  for (float& value : gradient) value = values(random);
  return gradient;
}

std::vector<float> ordered_sum(Collective& ranks) {
  constexpr std::uint32_t kLanes = 6;
  std::vector<cluster::LaneRange> owned;
  for (std::uint32_t rank = 0; rank < ranks.size(); ++rank) {
    const std::uint32_t first = kLanes * rank / ranks.size();
    owned.push_back({first, kLanes * (rank + 1) / ranks.size() - first});
  }
  const auto mine = owned[ranks.rank()];
  std::vector<float> sum(gradient_of_lane(0).size());
  cluster::SubtreeAccumulator lanes(kLanes, mine, sum.size());
  for (std::uint32_t lane = 0; lane < mine.count; ++lane)
    lanes.add_lane(gradient_of_lane(mine.first + lane));
  const auto added = cluster::ordered_all_reduce(ranks, kLanes, owned, lanes.sums(), sum);
  EXPECT_TRUE(added) << added.error().message;
  return sum;
}

std::vector<float> ring_sum(Collective& ranks) {
  std::vector<float> sum = gradient_of_lane(ranks.rank());
  const auto added = ranks.all_reduce(floats(sum));
  EXPECT_TRUE(added) << added.error().message;
  return sum;
}

Sums over_nccl(std::uint32_t size, const std::function<std::vector<float>(Collective&)>& reduce) {
  Sums sums(size);
  run_ranks(size, [&](Collective& ranks) { sums[ranks.rank()] = reduce(ranks); });
  return sums;
}

Sums over_zmq(std::uint32_t size, const std::function<std::vector<float>(Collective&)>& reduce) {
  Sums sums(size);
  cluster::Cast(size).run(1, [&](Collective& ranks) { sums[ranks.rank()] = reduce(ranks); });
  return sums;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_P(Nccl, OrderedSumsHaveTheBitsOfThoseOverZeroMq) {
  const Sums nccl = over_nccl(GetParam(), ordered_sum), zmq = over_zmq(GetParam(), ordered_sum);
  for (const auto& sum : nccl) EXPECT_TRUE(same_bits(sum, zmq[0]));
  for (const auto& sum : zmq) EXPECT_TRUE(same_bits(sum, zmq[0]));
}

// Of more than two, the order of additions is up to each of them.
TEST(NcclRing, SumsOfTwoHaveTheBitsOfThoseOverZeroMq) {
  const Sums nccl = over_nccl(2, ring_sum), zmq = over_zmq(2, ring_sum);
  for (const auto& sum : nccl) EXPECT_TRUE(same_bits(sum, zmq[0]));
}

}  // namespace
}  // namespace crabcast::nccl_test
