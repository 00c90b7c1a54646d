#include "scheduler/simulator.h"

#include <gmock/gmock.h>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

using testing::HasSubstr;

WorkloadOptions small(std::uint64_t seed) {
  WorkloadOptions options;
  options.seed = seed;
  options.nodes = static_cast<std::uint32_t>(6 + seed % 20);
  options.jobs = static_cast<std::uint32_t>(60 + seed % 90);
  options.queues = static_cast<std::uint32_t>(1 + seed % 40);
  options.load = 0.6 + 0.2 * static_cast<double>(seed % 7);
  options.outages = seed % 3 == 0 ? 0 : 0.05;
  return options;
}

// Every promise is checked at every event: see simulator_books.cpp.
TEST(Simulator, HundredsOfClustersKeepEveryPromise) {
  std::uint32_t preempted = 0, backfilled = 0, shrunk = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SimulationOptions options;
    options.seed = seed;
    const auto result = simulate(synthetic_workload(small(seed)), options);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->finished + result->expired + result->never_started, 60 + seed % 90)
        << "seed " << seed;
    preempted += result->preempted;
    backfilled += result->backfilled;
    shrunk += result->shrunk;
  }
  // They were there to be checked.
  EXPECT_GT(preempted, 50U);
  EXPECT_GT(backfilled, 500U);
  EXPECT_GT(shrunk, 500U);
}

TEST(Simulator, EqualSeedsGiveEqualResults) {
  const auto once = simulate(synthetic_workload(small(7)), {});
  const auto again = simulate(synthetic_workload(small(7)), {});
  ASSERT_TRUE(once && again);
  EXPECT_EQ(once->makespan, again->makespan);
  EXPECT_EQ(once->admitted, again->admitted);
  EXPECT_EQ(once->gpus_used, again->gpus_used);
}

// Without limits of users, whose jobs the check leaves out; three times as much work as room.
TEST(Simulator, StarvationIsBounded) {
  WorkloadOptions options = small(3);
  options.load = 3;
  Workload workload = synthetic_workload(options);
  workload.policy.users.clear();
  workload.policy.starvation = std::chrono::minutes(20);
  const auto result = simulate(workload, {});
  ASSERT_TRUE(result) << result.error().message;
}

constexpr const char* kHeader =
    "id,submit,queue,user,priority,workers_min,workers_max,cpus,gpus,memory,duration,expected\n";

TEST(Trace, RunsWhatTheFileSays) {
  Workload base;
  base.nodes = {node("n", 4.2)};
  base.policy = ClusterPolicy::standard();
  const auto workload = read_trace(std::string(kHeader) +
                                       "one,0,default,ann,normal,4,4,1,0,1GiB,600,600\n"
                                       "two,60,default,bob,high,4,4,1,0,1GiB,300,\n",
                                   "t.csv", base);
  ASSERT_TRUE(workload) << workload.error().message;
  ASSERT_EQ(workload->jobs.size(), 2U);
  const auto result = simulate(*workload, {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->finished, 2U);
  EXPECT_NEAR(result->makespan, 900, 1);
  EXPECT_NEAR(result->waiting.front().most, 540, 1);
}

TEST(Trace, NamesEveryBadLine) {
  Workload base;
  base.policy = ClusterPolicy::standard();
  const auto bad = read_trace(std::string(kHeader) +
                                  "one,0,default,ann,normal,1,1,1,0,1GiB,x,\n"
                                  "one,0,defalt,ann,hgih,2,1,1,0,1,5,\n"
                                  "two,0\n",
                              "t.csv", base);
  ASSERT_FALSE(bad);
  const std::string& text = bad.error().message;
  EXPECT_THAT(text, HasSubstr("t.csv:2: duration: \"x\" is not a number"));
  EXPECT_THAT(text, HasSubstr("t.csv:3: id: must be there, and different"));
  EXPECT_THAT(text, HasSubstr("did you mean default?"));
  EXPECT_THAT(text, HasSubstr("did you mean high?"));
  EXPECT_THAT(text, HasSubstr("t.csv:3: workers_max: \"1\" is not a whole number from 2"));
  EXPECT_THAT(text, HasSubstr("t.csv:3: memory: \"1\" is not a size"));
  EXPECT_THAT(text, HasSubstr("t.csv:4: has 2 cells, and there are 12 columns"));
  EXPECT_THAT(read_trace("id,sumbit\n", "t.csv", base).error().message,
              HasSubstr("t.csv:1: sumbit: unknown column; did you mean submit?"));
}

TEST(Picture, ShowsUseAndLines) {
  const auto result = simulate(synthetic_workload(small(5)), {});
  ASSERT_TRUE(result);
  const std::string svg = to_svg(*result);
  const auto says = [&](const std::string& part) { return svg.find(part) != std::string::npos; };
  EXPECT_TRUE(says("prefers-color-scheme: dark"));
  EXPECT_TRUE(says(">waiting</text>"));
  EXPECT_FALSE(says("nan"));
  // A legend and a line each.
  for (const std::string kind : {"gpus", "cpus", "memory", "running", "waiting"}) {
    const std::string mark = "class=\"line " + kind + "\"";
    EXPECT_NE(svg.find(mark), svg.rfind(mark)) << kind;
  }
}

}  // namespace
}  // namespace crabcast::scheduler
