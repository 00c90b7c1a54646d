// Who holds which state, and what a coordinator finds of an earlier one: verdicts, checkpoints,
// scores.
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(JobMachineState, AJobThatGoesOnNeedsTheBaseOfItsCheckpoints) {
  JobHistory history;
  history.last_commit = 5;
  history.base_hash = "of its checkpoints";
  for (const std::string base : {"of its checkpoints", "of another base"}) {
    Bench bench(history);
    auto body = Bench::registration("worker-0", 10);
    body.set_base_hash(base);
    bench.machine->on_registered(body, bench.now);
    EXPECT_EQ(bench.machine->leaving(), base == "of another base");
    if (!bench.machine->leaving()) continue;
    bench.machine->on_gone("worker-0", "left", true, bench.now, 10);
    bench.after(seconds(60));
    bench.after(seconds(60));
    EXPECT_THAT(bench.machine->status(bench.now, 0).reason(),
                testing::HasSubstr("of another base instead of of its checkpoints"));
  }
}

TEST(JobMachineState, AMissedVerdictIsOnlyToldToThoseWhoWaitForThatVeryStep) {
  JobHistory history;
  history.last_commit = 5;
  history.last_generation = 3;
  const auto told = [&](std::uint64_t pending, std::uint64_t generation, bool skipped) {
    history.last_skipped = skipped;
    Bench bench(history);
    bench.take();
    auto body = Bench::registration("worker-0", 10);
    body.set_holds_state(true);
    body.set_state_step(4);
    body.set_pending_step(pending);
    body.set_generation(generation);
    bench.machine->on_registered(body, bench.now);
    auto lines = bench.take();
    std::erase_if(lines, [](const auto& line) { return line.starts_with("generation"); });
    return lines;
  };
  EXPECT_THAT(told(5, 3, false), ElementsAre("commit 5 to worker-0"));
  EXPECT_THAT(told(5, 3, true), ElementsAre("skip 5 to worker-0")) << "its update was not applied";
  EXPECT_THAT(told(6, 3, false), IsEmpty());
  EXPECT_THAT(told(5, 4, false), IsEmpty());
  EXPECT_THAT(told(0, 3, false), IsEmpty());
}

TEST(JobMachineState, ANumberThatWasGivenAwayIsNotGivenAwayAgain) {
  JobHistory history;
  history.last_commit = 5;
  history.last_generation = 3;
  history.generation = 7;  // of no commit
  Bench bench(history);
  bench.take();
  bench.reg_with_state("worker-0", 10, 5);
  EXPECT_THAT(bench.take(), ElementsAre("generation 8 to worker-0"));
  bench.machine->on_generation_failed(8, {Errc::disk_full, "no space left"}, bench.now);
  EXPECT_THAT(bench.take(), testing::Contains("leave to worker-0"));
}

// They are of a history that was rewound: nothing of this one is stored or scored by them.
TEST(JobMachineState, WhatLiesBeyondTheLedgerDoesNotCount) {
  JobHistory history;
  history.last_commit = 6;
  history.checkpoints = {5, 10};
  history.evaluated = {10};
  Bench bench(history, 1);
  EXPECT_EQ(bench.machine->status(bench.now, 0).newest_checkpoint(), 5U);
  bench.reg("loader-0");
  bench.take();
  bench.reg("evaluator-0");
  EXPECT_THAT(bench.take(), ElementsAre("evaluate 5 to evaluator-0"));
  bench.evaluated("evaluator-0", 10);  // asked for by an earlier coordinator
  EXPECT_EQ(bench.machine->status(bench.now, 0).evaluation().checkpoint(), 0U);
}

// Its saver was lost, but went on, and was done when the ledger had been rewound.
TEST(JobMachineState, ACheckpointThatComesAfterARewindIsNotGoneBackTo) {
  JobHistory history;
  history.last_commit = 10;
  history.checkpoints = {5, 10};
  Bench bench(history);
  bench.take();
  bench.reg("worker-0", 10);
  bench.reg("worker-1", 11);
  EXPECT_THAT(bench.take(), ElementsAre("find checkpoint up to 10"));
  bench.machine->on_checkpoint_found(5, bench.now);
  EXPECT_THAT(bench.take(),
              ElementsAre("rewind to 5", "generation 1 to worker-0", "generation 1 to worker-1"));
  bench.machine->on_checkpoint_stored(10, bench.now);
  EXPECT_EQ(bench.machine->status(bench.now, 0).newest_checkpoint(), 5U);
  bench.machine->on_gone("worker-0", "killed", true, bench.now, 10);
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  bench.after(milliseconds(300));
  bench.reg("worker-0", 12);
  bench.reg("worker-1", 13);
  EXPECT_THAT(bench.take(), testing::Contains("find checkpoint up to 5"));
}

// Whoever held the result died just then, but it is stored: nobody is needed any more.
TEST(JobMachineState, AResultThatIsStoredWhenItsHoldersAreLostEndsTheJob) {
  JobHistory history;
  history.last_commit = 9;
  history.last_generation = history.generation = 1;
  Bench bench(history);
  bench.reg("loader-0");
  bench.reg_with_state("worker-0", 10, 9);
  bench.ready("worker-0", 2, 9);
  bench.step("worker-0", 2, 10);
  bench.machine->on_commit_durable(10, bench.now);
  bench.machine->on_gone("worker-0", "killed", true, bench.now, 10);
  bench.take();
  bench.machine->on_checkpoint_stored(10, bench.now);
  EXPECT_THAT(bench.take(), testing::Contains("leave to loader-0"));
}

// The last step is history, but all who could apply it gave it up meanwhile.
TEST(JobMachineState, AResultThatNobodyHoldsIsTrainedAgain) {
  JobHistory history;
  history.last_commit = 9;
  history.last_generation = history.generation = 1;
  Bench bench(history);
  bench.reg_with_state("worker-0", 10, 9);
  bench.reg_with_state("worker-1", 11, 9);
  for (const std::string role : {"worker-0", "worker-1"}) bench.ready(role, 3, 9);
  for (const std::string role : {"worker-0", "worker-1"}) bench.step(role, 3, 10);
  for (const std::string role : {"worker-0", "worker-1"}) bench.fault(role, 3);
  bench.take();
  bench.machine->on_commit_durable(10, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("find checkpoint up to 10"));
}

// worker-1 was about to load a state when the one that had it died: whether it has one by now is
// not known, and who has one cannot begin afresh.
TEST(JobMachineState, WhoMayHoldAVoidStateIsStartedAnewToBeginAfresh) {
  Bench bench;
  bench.run();
  for (const std::string role : {"worker-0", "worker-1"}) bench.step(role, 1, 1);
  bench.machine->on_commit_durable(1, bench.now);
  bench.machine->on_gone("worker-1", "killed", true, bench.now, 11);
  bench.after(milliseconds(300));
  bench.ready("worker-0", 2, 1);
  bench.reg("worker-1", 12);
  bench.step("worker-0", 2, 2);
  bench.machine->on_commit_durable(2, bench.now);  // then worker-1 joins
  bench.machine->on_gone("worker-0", "killed", true, bench.now, 10);
  bench.after(milliseconds(300));
  bench.reg("worker-0", 13);
  EXPECT_THAT(bench.take(), testing::Contains("find checkpoint up to 2"));
  bench.machine->on_checkpoint_found(std::nullopt, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("rewind to 0", "stop worker-1 on node-a"))
      << "worker-0 has never held any";
}

// It was loading a state when its coordinator died.
TEST(JobMachineState, WhoMayHaveLoadedAStateForAnEarlierCoordinatorIsStartedAnewToBeginAfresh) {
  JobHistory history;
  history.last_commit = 5;
  history.last_generation = 1;
  history.generation = 2;
  Bench bench(history);
  bench.reg("worker-1", 11);  // of no generation yet
  auto body = Bench::registration("worker-0", 10);
  body.set_generation(2);
  bench.machine->on_registered(body, bench.now);
  bench.take();
  bench.machine->on_checkpoint_found(std::nullopt, bench.now);
  EXPECT_THAT(bench.take(), testing::Contains("stop worker-0 on node-a"));
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_HEALTHY);
}

// The step at which a checkpoint was due is history, but nobody was left to be asked for its state.
TEST(JobMachineState, ACheckpointThatNobodyCouldSaveComesWithTheNextStep) {
  JobHistory history;
  history.last_commit = 4;
  history.last_generation = history.generation = 1;
  Bench bench(history);
  bench.reg_with_state("worker-0", 10, 4);
  bench.ready("worker-0", 2, 4);
  bench.step("worker-0", 2, 5);
  bench.fault("worker-0", 2);
  bench.machine->on_commit_durable(5, bench.now);
  bench.after(seconds(2));
  bench.reg_with_state("worker-1", 11, 5);  // it waited through the coordinator's restart
  bench.ready("worker-0", 3, 5);
  bench.ready("worker-1", 3, 5);
  bench.step("worker-0", 3, 6);
  bench.step("worker-1", 3, 6);
  bench.take();
  bench.machine->on_commit_durable(6, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("save 6 to worker-0", "commit 6 to worker-1"));
}

// C-2: what a rewound history left in the store may be newer, but cannot be gone back to.
TEST(JobMachineState, TheNewestCheckpointOfThisHistoryIsKept) {
  JobHistory history;
  history.last_commit = 6;
  history.checkpoints = {5, 10};
  Bench bench(history);
  bench.take();
  bench.machine->on_checkpoint_stored(6, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("keep 6"));
}

TEST(JobMachineState, TheLastCheckpointIsTriedByEachOfThoseWhoHoldIt) {
  JobHistory history;
  history.last_commit = 10;
  Bench bench(history);
  bench.take();
  bench.reg_with_state("worker-0", 10, 10);
  EXPECT_THAT(bench.take(), ElementsAre("save 10 to worker-0"));
  bench.reg_with_state("worker-1", 11, 10);
  bench.machine->on_checkpoint_failed(10, {Errc::io_error, "x"}, bench.now);
  EXPECT_THAT(bench.after(seconds(3)), ElementsAre("save 10 to worker-1"));
  bench.machine->on_checkpoint_failed(10, {Errc::io_error, "x"}, bench.now);
  EXPECT_THAT(bench.after(seconds(5)), ElementsAre("save 10 to worker-0"));
}

TEST(JobMachineState, AStopWaitsForTheCommitThatIsBeingWritten) {
  JobHistory history;
  history.last_commit = 5;
  history.last_generation = history.generation = 1;
  history.checkpoints = {5};
  Bench bench(history);
  bench.reg("loader-0");
  bench.reg_with_state("worker-0", 10, 5);
  bench.ready("worker-0", 2, 5);
  bench.step("worker-0", 2, 6);
  bench.take();
  bench.machine->on_stop(true, "asked", bench.now);
  EXPECT_THAT(bench.take(), IsEmpty()) << "step 6 may be durable already";
  bench.machine->on_commit_durable(6, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("save 6 to worker-0"));
  bench.machine->on_checkpoint_stored(6, bench.now);
  EXPECT_THAT(bench.take(), testing::Contains("leave to worker-0"));
}

// One that was asked for twice, because the coordinator was not sure of the first.
TEST(JobMachineState, AResultThatIsKnownAlreadyFreesItsEvaluator) {
  JobHistory history;
  history.last_commit = 10;
  history.checkpoints = {5, 10};
  Bench bench(history, 2);
  bench.take();
  bench.reg("evaluator-0", 20);
  bench.reg("evaluator-1", 21);
  EXPECT_THAT(bench.take(), ElementsAre("evaluate 5 to evaluator-0", "evaluate 10 to evaluator-1"));
  bench.evaluated("evaluator-1", 5);
  bench.machine->on_gone("evaluator-1", "killed", true, bench.now, 21);
  EXPECT_THAT(bench.take(), IsEmpty()) << "checkpoint 10 waits for an evaluator";
  bench.evaluated("evaluator-0", 5);
  EXPECT_THAT(bench.take(), ElementsAre("evaluate 10 to evaluator-0"));
}

}  // namespace
}  // namespace crabcast::actors
