// A step's sum over real collectives: the same bits for any number of members (T-2).
#include "actors/compute/gradient_exchange.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "actors/compute/device_collective.h"
#include "model/random.h"
#include "tests/cluster/transport_fixture.h"

namespace crabcast::actors {
namespace {

constexpr std::uint32_t kLanes = 6;
constexpr std::int64_t kElements = 1003;
constexpr std::size_t kTensors = 10;

model::LaneResult lane_result(std::uint32_t lane) {
  model::LaneResult result;
  result.gradient = at::empty({kElements});
  model::fill_uniform(result.gradient, lane + 1, std::exp(static_cast<double>(lane)));
  result.touched.assign(kTensors, false);
  result.touched[lane] = true;  // tensors 6 to 9 are touched by nobody
  result.samples = {{0.5, lane + 1}, {1.5, 2}};
  return result;
}

struct Outcome {
  at::Tensor gradient;
  StepTotals totals;
};

// Every member's outcome when `lanes_of` says how many lanes each has.
std::vector<Outcome> exchange(ReductionKind kind, const std::vector<std::uint32_t>& lanes_of,
                              bool broken_lane = false) {
  std::vector<std::unique_ptr<cluster::CollectiveHost>> hosts;
  std::vector<cluster::CollectiveMember> members;
  std::vector<cluster::LaneRange> owned;
  for (std::uint32_t rank = 0, first = 0; rank < lanes_of.size(); ++rank) {
    hosts.push_back(
        cluster::CollectiveHost::listen("tcp://127.0.0.1:*", cluster::test_keys()).value());
    members.push_back({"worker-" + std::to_string(rank), hosts.back()->endpoint()});
    owned.push_back({first, lanes_of[rank]});
    first += lanes_of[rank];
  }
  std::vector<Outcome> outcomes(hosts.size());
  std::vector<std::thread> threads;
  for (std::uint32_t rank = 0; rank < hosts.size(); ++rank)
    threads.emplace_back([&, rank] {
      auto met = hosts[rank]->form(1, rank, members, cluster::kPatience, cluster::kPatience);
      ASSERT_TRUE(met) << met.error().message;
      auto formed = collective_for("cpu", std::move(*met), cluster::kPatience, cluster::kPatience,
                                   [] { return false; });
      ASSERT_TRUE(formed) << formed.error().message;
      GradientExchange step(kind, kLanes, owned, rank, kElements, kTensors);
      for (std::uint32_t i = 0; i < owned[rank].count; ++i) {
        auto lane = lane_result(owned[rank].first + i);
        if (broken_lane && owned[rank].first + i == 4)
          lane.samples[0].loss_sum = std::numeric_limits<double>::quiet_NaN();
        step.add_lane(lane);
      }
      auto totals = step.finish(**formed, outcomes[rank].gradient);
      ASSERT_TRUE(totals) << totals.error().message;
      outcomes[rank].totals = *totals;
    });
  for (auto& thread : threads) thread.join();
  return outcomes;
}

at::Tensor plain_sum() {
  at::Tensor sum = at::zeros({kElements}, at::kDouble);
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) sum += lane_result(lane).gradient;
  return sum;
}

TEST(GradientExchange, OrderedGivesTheSameBitsForEverySplit) {  // T-2
  const auto alone = exchange(ReductionKind::ordered, {kLanes});
  EXPECT_LT((alone[0].gradient - plain_sum()).abs().max().item<double>(), 1e-3);
  for (const std::vector<std::uint32_t>& split : std::vector<std::vector<std::uint32_t>>{
           {3, 3}, {2, 2, 2}, {1, 5}, {4, 1, 1}, {1, 1, 1, 1, 1, 1}})
    for (const Outcome& member : exchange(ReductionKind::ordered, split)) {
      EXPECT_TRUE(at::equal(member.gradient, alone[0].gradient));
      EXPECT_EQ(member.totals.tokens, 1 + 2 + 3 + 4 + 5 + 6 + 6 * 2);
      EXPECT_EQ(member.totals.touched, alone[0].totals.touched);
      EXPECT_TRUE(member.totals.finite);
    }
  for (std::size_t i = 0; i < kTensors; ++i) EXPECT_EQ(alone[0].totals.touched[i], i < kLanes) << i;
}

TEST(GradientExchange, RingGivesEveryMemberTheSameSum) {
  const auto members = exchange(ReductionKind::ring, {2, 3, 1});
  for (const Outcome& member : members) {
    EXPECT_TRUE(at::equal(member.gradient, members[0].gradient));
    EXPECT_LT((member.gradient - plain_sum()).abs().max().item<double>(), 1e-3);
  }
}

TEST(GradientExchange, EverybodyHearsOfANumberThatIsNotFinite) {
  for (const Outcome& member : exchange(ReductionKind::ordered, {2, 2, 2}, true))
    EXPECT_FALSE(member.totals.finite);
}

TEST(DeviceCollective, AGpuNeedsABuildWithNccl) {
#ifndef CRABCAST_CUDA
  const auto none = collective_for("cuda:0", nullptr, cluster::kPatience, cluster::kPatience,
                                   [] { return false; });
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, Errc::unsupported);
#else
  GTEST_SKIP() << "this build has NCCL; the tests under the label gpu use it";
#endif
}

}  // namespace
}  // namespace crabcast::actors
