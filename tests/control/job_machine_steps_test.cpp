// When a step is committed (T-1), and reports that come late, twice or not at all.
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(JobMachineSteps, T1CommitWaitsForEveryMemberAndForTheDisk) {
  Bench bench;
  bench.run();
  bench.step("worker-0", 1, 1);
  EXPECT_THAT(bench.take(), IsEmpty()) << "worker-1 has not reported";
  bench.step("worker-0", 1, 1);
  EXPECT_THAT(bench.take(), IsEmpty()) << "twice the same is not both";
  bench.step("worker-1", 1, 1);
  EXPECT_THAT(bench.take(), ElementsAre("write 1"));
  EXPECT_THAT(bench.after(seconds(5)), IsEmpty()) << "not durable yet";
  bench.machine->on_commit_durable(2, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty()) << "another step";
  bench.machine->on_commit_durable(1, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("commit 1 to worker-0", "commit 1 to worker-1"));
  bench.machine->on_commit_durable(1, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty()) << "once is enough";
}

TEST(JobMachineSteps, ReportsOfAnotherGenerationOrStepDoNotCount) {
  Bench bench;
  bench.run();
  bench.step("worker-0", 1, 1);
  bench.step("worker-1", 0, 1);
  bench.step("worker-1", 1, 2);
  bench.step("worker-1", 2, 1);
  bench.step("stranger", 1, 1);
  EXPECT_THAT(bench.take(), IsEmpty());
}

// worker-1 reported its step and died before the other one did: the step belongs to nobody.
TEST(JobMachineSteps, AReportDiesWithItsMember) {
  Bench bench;
  bench.run();
  bench.step("worker-1", 1, 1);
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  EXPECT_THAT(bench.take(), ElementsAre("generation 2 to worker-0"));
  bench.step("worker-0", 1, 1);  // of the old generation, on its way when that ended
  EXPECT_THAT(bench.take(), IsEmpty());
  bench.ready("worker-0", 2, 0);
  bench.step("worker-0", 2, 1);
  EXPECT_THAT(bench.take(), ElementsAre("write 1"));
}

// A member that gave its step up while the commit was written is not asked to apply it, and its
// report is none of the next step.
TEST(JobMachineSteps, AReportDiesWithAFault) {
  Bench bench;
  bench.run();
  bench.step("worker-0", 1, 1);
  bench.step("worker-1", 1, 1);
  bench.fault("worker-1", 1);
  bench.take();
  bench.machine->on_commit_durable(1, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("commit 1 to worker-0"));
  bench.step("worker-0", 1, 2);
  EXPECT_THAT(bench.after(milliseconds(100)), IsEmpty()) << "worker-1 has not done step 2";
  EXPECT_THAT(bench.after(seconds(1)),
              ElementsAre("generation 2 to worker-0", "generation 2 to worker-1"));
}

// It died while its commit was written; its successor must not be taken for it.
TEST(JobMachineSteps, ACommitIsNotSentToASuccessor) {
  Bench bench;
  bench.run();
  bench.step("worker-0", 1, 1);
  bench.step("worker-1", 1, 1);
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  bench.after(milliseconds(300));
  bench.reg("worker-1", 12);
  bench.take();
  bench.machine->on_commit_durable(1, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("commit 1 to worker-0", "generation 2 to worker-0",
                                        "generation 2 to worker-1"));
}

TEST(JobMachineSteps, ALedgerThatCannotBeWrittenEndsTheJob) {
  Bench bench;
  bench.run();
  bench.step("worker-0", 1, 1);
  bench.step("worker-1", 1, 1);
  bench.machine->on_commit_failed(1, {Errc::disk_full, "no space left"}, bench.now);
  for (const std::string role : {"worker-0", "worker-1", "loader-0"})
    bench.machine->on_gone(role, "left", true, bench.now);
  EXPECT_TRUE(bench.machine->finished());
  EXPECT_EQ(bench.machine->status(bench.now, 0).state(), pb::JOB_FAILED);
  EXPECT_THAT(bench.machine->status(bench.now, 0).reason(), HasSubstr("step 1"));
}

TEST(JobMachineSteps, NothingFollowsTheEnd) {
  Bench bench;
  bench.run();
  bench.step("worker-0", 1, 1);
  bench.step("worker-1", 1, 1);
  bench.machine->on_stop(false, "asked", bench.now);
  bench.machine->on_gone("worker-0", "left", true, bench.now, 10);
  bench.machine->on_gone("worker-1", "left", true, bench.now, 11);
  bench.machine->on_gone("loader-0", "left", true, bench.now);
  EXPECT_EQ(bench.take().back(), "finish");
  bench.machine->on_commit_durable(1, bench.now);  // was being written
  bench.machine->on_checkpoint_stored(5, bench.now);
  bench.machine->on_checkpoint_failed(5, {Errc::io_error, "x"}, bench.now);
  bench.machine->on_checkpoint_found(5, bench.now);
  bench.machine->on_placement({slot("worker-2", pb::ROLE_WORKER)}, bench.now);
  bench.machine->adopt_process("worker-0", 10, bench.now);
  bench.machine->on_gone("worker-0", "again", true, bench.now);
  bench.machine->on_evaluation("worker-0", {}, bench.now);
  bench.machine->on_stop(true, "again", bench.now);
  bench.reg("worker-0", 10);
  bench.step("worker-0", 1, 2);
  bench.now += seconds(100);
  bench.machine->on_tick(bench.now);
  EXPECT_THAT(bench.machine->take_actions(), IsEmpty());
}

TEST(JobMachineSteps, NobodyIsStartedWhenTheJobEnds) {
  Bench bench;
  bench.run();
  bench.machine->on_stop(false, "asked", bench.now);
  bench.take();
  bench.machine->on_placement({slot("worker-2", pb::ROLE_WORKER)}, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty());
}

}  // namespace
}  // namespace crabcast::actors
