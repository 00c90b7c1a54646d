// Members that wait: for one another, for a batch, for those that start yet.
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(JobMachineWaiting, AStandstillOpensANewGeneration) {
  Bench bench;
  bench.run();
  for (const std::string role : {"worker-0", "worker-1"})
    bench.doing(role, "step 1: wait for commit");
  EXPECT_THAT(bench.after(seconds(59)), IsEmpty());
  EXPECT_THAT(bench.after(seconds(2)),
              ElementsAre("standstill", "generation 2 to worker-0", "generation 2 to worker-1"));
}

// The second loader cannot be at fault as well.
TEST(JobMachineWaiting, WhoGetsNoBatchFromAnyLoaderIsTheCulprit) {
  Bench bench;
  bench.run();
  bench.doing("worker-0", "step 1: wait for batch");
  bench.doing("worker-1", "step 1: reduce");
  EXPECT_THAT(bench.after(seconds(61)), ElementsAre("stop loader-0 on node-a"));
  bench.machine->on_gone("loader-0", "killed", true, bench.now);
  bench.after(seconds(1));
  bench.reg("loader-0", 30);
  bench.take();
  const auto blamed = bench.after(seconds(62));
  ASSERT_FALSE(blamed.empty());
  EXPECT_EQ(blamed[0], "stop worker-0 on node-a");
}

TEST(JobMachineWaiting, NobodyIsBlamedWhileAllLoadersAreLost) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("loader-0", "killed", true, bench.now);
  bench.after(seconds(1));
  for (const std::string role : {"worker-0", "worker-1"})
    bench.doing(role, "step 1: wait for batch");
  EXPECT_THAT(bench.after(seconds(61)), IsEmpty()) << "neither a standstill nor a loss";
  bench.reg("loader-0", 30);
  bench.take();
  EXPECT_THAT(bench.after(seconds(59)), IsEmpty()) << "it has the time that any loader has";
  EXPECT_THAT(bench.after(seconds(2)), ElementsAre("stop loader-0 on node-a"));
}

TEST(JobMachineWaiting, AWorkerThatDiesBeforeTheFirstGenerationIsWaitedFor) {
  Bench bench;
  bench.reg("worker-0", 10);
  bench.take();
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  EXPECT_THAT(bench.take(), IsEmpty()) << "it starts again in a moment";
  EXPECT_THAT(bench.after(milliseconds(300)), ElementsAre("start worker-1 on node-a"));
  bench.reg("worker-1", 12);
  EXPECT_THAT(bench.take(),
              testing::IsSupersetOf({"generation 1 to worker-0", "generation 1 to worker-1"}));
}

TEST(JobMachineWaiting, FirstWorkersWaitForTheOthersButNotForEver) {
  Bench bench;
  bench.reg("worker-0", 10);
  bench.take();
  EXPECT_THAT(bench.after(seconds(59)), IsEmpty());
  EXPECT_THAT(bench.after(seconds(2)), ElementsAre("generation 1 to worker-0"));
}

}  // namespace
}  // namespace crabcast::actors
