// Which process a word is about: late ones, successors, and those that an agent names again.
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The agent's notice overtook the member's own message.
TEST(JobMachineProcesses, ARegistrationOfAProcessThatHasEndedIsLate) {
  Bench bench;
  bench.take();
  bench.machine->on_gone("worker-0", "killed", true, bench.now, 10);
  EXPECT_FALSE(bench.reg("worker-0", 10));
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_FAILED);
  EXPECT_THAT(bench.after(milliseconds(300)), ElementsAre("start worker-0 on node-a"));
  EXPECT_FALSE(bench.reg("worker-0", 10)) << "although the new one's pid is not known yet";
  bench.machine->on_started("worker-0", 12);
  EXPECT_FALSE(bench.reg("worker-0", 10));
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_STARTING);
  EXPECT_TRUE(bench.reg("worker-0", 12));
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_HEALTHY);
}

// Its start was answered too late, or the answer was lost with its agent's connection.
TEST(JobMachineProcesses, AProcessWhoseStartSeemedToFailIsTakenWhenItRegisters) {
  Bench bench;
  bench.take();
  bench.machine->on_start_failed("worker-0", {Errc::timeout, "no answer"}, bench.now);
  EXPECT_TRUE(bench.reg("worker-0", 12));
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_HEALTHY);
  bench.take();
  bench.machine->on_start_failed("worker-0", {Errc::timeout, "no answer"}, bench.now);
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_HEALTHY) << "it runs, as one can see";
  EXPECT_THAT(bench.after(seconds(10)), IsEmpty()) << "nobody is started beside it";
}

TEST(JobMachineProcesses, TheEndOfAnEarlierProcessIsNotThatOfItsSuccessor) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "its connection was lost", false, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("stop worker-1 on node-a", "generation 2 to worker-0"));
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  bench.after(milliseconds(300));
  bench.reg("worker-1", 12);
  bench.take();
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_HEALTHY);
}

TEST(JobMachineProcesses, TheEndOfAnEarlierProcessIsToldFromAStartThatIsUnderWay) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  bench.after(milliseconds(300));
  ASSERT_EQ(bench.actor("worker-1").state(), pb::ACTOR_STARTING);
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_STARTING);
  EXPECT_EQ(bench.machine->status(bench.now, 0).incidents(), 1U);
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 12);
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_FAILED) << "that one is its own";
}

// Its process ended with its agent's connection, so nobody will ever tell of its end.
TEST(JobMachineProcesses, WhoCannotBeStoppedBecauseItIsGoneIsReplaced) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "its connection was lost", false, bench.now);
  bench.take();
  bench.machine->on_nothing_to_stop("worker-1", bench.now);
  EXPECT_THAT(bench.after(milliseconds(300)), ElementsAre("start worker-1 on node-a"));
  bench.machine->on_nothing_to_stop("worker-1", bench.now);  // the answer to another order
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_STARTING);
}

TEST(JobMachineProcesses, WhoIsBeingKilledDoesNotComeBack) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "its connection was lost", false, bench.now);
  bench.take();
  bench.reg("worker-1", 11);  // it connected again before the kill reached it
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_FAILED);
  EXPECT_THAT(bench.after(seconds(5)), IsEmpty());
  EXPECT_THAT(bench.after(seconds(6)), ElementsAre("stop worker-1 on node-a"))
      << "the order may be lost";
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  EXPECT_THAT(bench.after(seconds(1)), ElementsAre("start worker-1 on node-a"));
}

TEST(JobMachineProcesses, AProcessThatRunsAlreadyIsNoFailedStart) {
  Bench bench;
  bench.take();
  bench.machine->on_start_failed("worker-0", {Errc::already_exists, "runs here"}, bench.now);
  EXPECT_THAT(bench.after(seconds(10)), IsEmpty());
  bench.machine->on_start_failed("worker-1", {Errc::io_error, "no such file"}, bench.now);
  EXPECT_THAT(bench.after(seconds(1)), ElementsAre("start worker-1 on node-a"));
}

// An agent that connects again names all that it runs.
TEST(JobMachineProcesses, AHealthyMemberStaysHealthyWhenItsAgentNamesIt) {
  Bench bench;
  bench.run();
  bench.machine->adopt_process("worker-0", 10, bench.now);
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_HEALTHY);
  EXPECT_THAT(bench.take(), IsEmpty());
}

TEST(JobMachineProcesses, AProcessThatWasGivenUpButRanOnIsReplacedOnce) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "the agent is gone", true, bench.now);
  bench.take();
  bench.machine->adopt_process("worker-1", 11, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("stop worker-1 on node-a"));
  EXPECT_THAT(bench.after(seconds(1)), IsEmpty()) << "the old one runs";
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  EXPECT_THAT(bench.after(milliseconds(100)), ElementsAre("start worker-1 on node-a"));
  EXPECT_EQ(bench.actor("worker-1").restarts(), 1U);
}

// Its node is gone, and the controller found another one.
TEST(JobMachineProcesses, ARoleMovesToAnotherNode) {
  Bench bench;
  bench.run();
  const std::vector moved{slot("worker-1", pb::ROLE_WORKER, "node-b")};
  bench.machine->on_placement(moved, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty()) << "it lives where it is";
  bench.machine->on_gone("worker-1", "the agent is gone", true, bench.now);
  bench.take();
  EXPECT_THAT(bench.after(seconds(1)), ElementsAre("start worker-1 on node-b"));
  EXPECT_EQ(bench.machine->node_of("worker-1"), "node-b");
}

// Process ids are those of a node: another node may use the same number.
TEST(JobMachineProcesses, AProcessOnAnotherNodeMayHaveTheSamePid) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "the agent is gone", true, bench.now);
  bench.machine->on_placement({slot("worker-1", pb::ROLE_WORKER, "node-b")}, bench.now);
  bench.after(seconds(1));
  EXPECT_TRUE(bench.reg("worker-1", 11));
}

TEST(JobMachineProcesses, ARoleThatWasStartingMovesAtOnce) {
  Bench bench;
  bench.take();
  bench.machine->on_placement({slot("worker-1", pb::ROLE_WORKER, "node-b")}, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("stop worker-1 on node-a", "start worker-1 on node-b"))
      << "its old node may come back";
  bench.machine->on_placement({slot("worker-1", pb::ROLE_WORKER, "node-b")}, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty()) << "it starts there already";
}

}  // namespace
}  // namespace crabcast::actors
