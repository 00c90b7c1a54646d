// The JobMachine call by call: what must not happen, and messages that come late or out of order.
#include <gmock/gmock.h>

#include "actors/control/job_machine.h"

namespace crabcast::actors {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

pb::RoleSlot slot(const std::string& role, pb::RoleKind kind, const std::string& node = "node-a") {
  pb::RoleSlot slot;
  slot.set_role(role);
  slot.set_kind(kind);
  slot.set_node(node);
  return slot;
}

// A machine with two workers and a loader, and what it asked for since the last look.
struct Bench {
  explicit Bench(JobHistory history = {}, std::uint32_t evaluators = 0) {
    JobSpec spec;
    spec.name = "job";
    spec.train.steps = 10;
    spec.train.lanes = 2;
    spec.resources.workers_max = 2;
    spec.resources.evaluators = evaluators;
    spec.checkpoint.every_steps = 5;
    spec.evaluate.every_steps = 5;
    std::vector slots{slot("worker-0", pb::ROLE_WORKER), slot("worker-1", pb::ROLE_WORKER),
                      slot("loader-0", pb::ROLE_LOADER)};
    for (std::uint32_t i = 0; i < evaluators; ++i)
      slots.push_back(slot("evaluator-" + std::to_string(i), pb::ROLE_EVALUATOR));
    machine.emplace("job-1", spec, std::move(slots), std::move(history));
    machine->start(now);
  }

  static pb::RegisterMember registration(const std::string& role, int pid) {
    pb::RegisterMember body;
    body.set_role(role);
    body.set_pid(pid);
    return body;
  }
  bool reg(const std::string& role, int pid = 0) {
    return machine->on_registered(registration(role, pid), now);
  }
  // Of a worker that kept its state through a coordinator's restart.
  void reg_with_state(const std::string& role, int pid, std::uint64_t step) {
    auto body = registration(role, pid);
    body.set_holds_state(true);
    body.set_state_step(step);
    machine->on_registered(body, now);
  }
  void doing(const std::string& role, const std::string& what) {
    pb::MemberProgress progress;
    progress.set_role(role);
    progress.set_doing(what);
    machine->on_progress(progress, now);
  }
  void evaluated(const std::string& role, std::uint64_t checkpoint) {
    pb::EvaluationDone done;
    done.mutable_record()->set_checkpoint(checkpoint);
    machine->on_evaluation(role, done, now);
  }
  void ready(const std::string& role, std::uint64_t generation = 1, std::uint64_t step = 0) {
    pb::GenerationReady body;
    body.set_generation(generation);
    body.set_state_step(step);
    machine->on_generation_ready(role, body, now);
  }
  void fault(const std::string& role, std::uint64_t generation) {
    pb::MemberFault body;
    body.set_generation(generation);
    machine->on_fault(role, body, now);
  }
  void step(const std::string& role, std::uint64_t generation, std::uint64_t step) {
    pb::StepReady body;
    body.set_generation(generation);
    body.set_step(step);
    body.set_finite(true);
    machine->on_step_ready(role, body, now);
  }
  void run() {
    reg("loader-0");
    reg("worker-0", 10);
    reg("worker-1", 11);
    ready("worker-0");
    ready("worker-1");
    take();
  }

  // What it asked for, one line each: "commit 1 to worker-0".
  std::vector<std::string> take() {
    std::vector<std::string> lines;
    for (const auto& action : machine->take_actions()) {
      if (const auto* send = std::get_if<SendTo>(&action)) {
        const auto& envelope = send->envelope;
        const std::string to = " to " + send->role;
        if (envelope.has_commit())
          lines.push_back((envelope.commit().checkpoint() != 0 ? "save " : "commit ") +
                          std::to_string(envelope.commit().step()) + to);
        if (envelope.has_evaluate())
          lines.push_back("evaluate " + std::to_string(envelope.evaluate().checkpoint()) + to);
        if (envelope.has_skip_step())
          lines.push_back("skip " + std::to_string(envelope.skip_step().step()) + to);
        if (envelope.has_leave_job()) lines.push_back("leave" + to);
      } else if (const auto* publish = std::get_if<PublishGeneration>(&action)) {
        for (const auto& role : publish->roles)
          lines.push_back("generation " + std::to_string(publish->generation.number()) + " to " +
                          role);
      } else if (const auto* write = std::get_if<WriteCommit>(&action)) {
        lines.push_back("write " + std::to_string(write->record.step()));
      } else if (const auto* start = std::get_if<StartProcess>(&action)) {
        lines.push_back("start " + start->slot.role() + " on " + start->slot.node());
      } else if (const auto* stop = std::get_if<StopProcess>(&action)) {
        lines.push_back("stop " + stop->role + " on " + stop->node);
      } else if (const auto* event = std::get_if<RecordEvent>(&action)) {
        if (event->event.kind() == "incident")
          lines.push_back("incident " + event->event.subject());
        if (event->event.kind() == "standstill") lines.push_back("standstill");
      } else if (std::holds_alternative<Finish>(action)) {
        lines.push_back("finish");
      } else if (const auto* find = std::get_if<FindCheckpoint>(&action)) {
        lines.push_back("find checkpoint up to " + std::to_string(find->at_most));
      } else if (const auto* retain = std::get_if<ApplyRetention>(&action)) {
        for (const auto id : retain->in_use) lines.push_back("keep " + std::to_string(id));
      } else if (const auto* rewind = std::get_if<RewindLedger>(&action)) {
        lines.push_back("rewind to " + std::to_string(rewind->step));
      }
    }
    return lines;
  }
  std::vector<std::string> after(Duration time) {
    now += time;
    machine->on_tick(now);
    return take();
  }
  pb::ActorStatus actor(const std::string& role) const {
    const auto status = machine->status(now, 0);
    for (const auto& actor : status.actors())
      if (actor.name() == role) return actor;
    return {};
  }

  TimePoint now{std::chrono::hours(1)};
  std::optional<JobMachine> machine;
};

TEST(JobMachineCalls, T1CommitWaitsForEveryMemberAndForTheDisk) {
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

TEST(JobMachineCalls, ReportsOfAnotherGenerationOrStepDoNotCount) {
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
TEST(JobMachineCalls, AReportDiesWithItsMember) {
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
TEST(JobMachineCalls, AReportDiesWithAFault) {
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
TEST(JobMachineCalls, ACommitIsNotSentToASuccessor) {
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

TEST(JobMachineCalls, ALedgerThatCannotBeWrittenEndsTheJob) {
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

TEST(JobMachineCalls, NothingFollowsTheEnd) {
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

TEST(JobMachineCalls, NobodyIsStartedWhenTheJobEnds) {
  Bench bench;
  bench.run();
  bench.machine->on_stop(false, "asked", bench.now);
  bench.take();
  bench.machine->on_placement({slot("worker-2", pb::ROLE_WORKER)}, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty());
}

// ---- processes and their names ----------------------------------------------------------------

// The agent's notice overtook the member's own message.
TEST(JobMachineCalls, ARegistrationOfAProcessThatHasEndedIsLate) {
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
TEST(JobMachineCalls, AProcessWhoseStartSeemedToFailIsTakenWhenItRegisters) {
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

TEST(JobMachineCalls, TheEndOfAnEarlierProcessIsNotThatOfItsSuccessor) {
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

TEST(JobMachineCalls, TheEndOfAnEarlierProcessIsToldFromAStartThatIsUnderWay) {
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
TEST(JobMachineCalls, WhoCannotBeStoppedBecauseItIsGoneIsReplaced) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "its connection was lost", false, bench.now);
  bench.take();
  bench.machine->on_nothing_to_stop("worker-1", bench.now);
  EXPECT_THAT(bench.after(milliseconds(300)), ElementsAre("start worker-1 on node-a"));
  bench.machine->on_nothing_to_stop("worker-1", bench.now);  // the answer to another order
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_STARTING);
}

TEST(JobMachineCalls, WhoIsBeingKilledDoesNotComeBack) {
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

TEST(JobMachineCalls, AProcessThatRunsAlreadyIsNoFailedStart) {
  Bench bench;
  bench.take();
  bench.machine->on_start_failed("worker-0", {Errc::already_exists, "runs here"}, bench.now);
  EXPECT_THAT(bench.after(seconds(10)), IsEmpty());
  bench.machine->on_start_failed("worker-1", {Errc::io_error, "no such file"}, bench.now);
  EXPECT_THAT(bench.after(seconds(1)), ElementsAre("start worker-1 on node-a"));
}

// An agent that connects again names all that it runs.
TEST(JobMachineCalls, AHealthyMemberStaysHealthyWhenItsAgentNamesIt) {
  Bench bench;
  bench.run();
  bench.machine->adopt_process("worker-0", 10, bench.now);
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_HEALTHY);
  EXPECT_THAT(bench.take(), IsEmpty());
}

TEST(JobMachineCalls, AProcessThatWasGivenUpButRanOnIsReplacedOnce) {
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
TEST(JobMachineCalls, ARoleMovesToAnotherNode) {
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
TEST(JobMachineCalls, AProcessOnAnotherNodeMayHaveTheSamePid) {
  Bench bench;
  bench.run();
  bench.machine->on_gone("worker-1", "the agent is gone", true, bench.now);
  bench.machine->on_placement({slot("worker-1", pb::ROLE_WORKER, "node-b")}, bench.now);
  bench.after(seconds(1));
  EXPECT_TRUE(bench.reg("worker-1", 11));
}

TEST(JobMachineCalls, ARoleThatWasStartingMovesAtOnce) {
  Bench bench;
  bench.take();
  bench.machine->on_placement({slot("worker-1", pb::ROLE_WORKER, "node-b")}, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("stop worker-1 on node-a", "start worker-1 on node-b"))
      << "its old node may come back";
  bench.machine->on_placement({slot("worker-1", pb::ROLE_WORKER, "node-b")}, bench.now);
  EXPECT_THAT(bench.take(), IsEmpty()) << "it starts there already";
}

// ---- state --------------------------------------------------------------------------------------

TEST(JobMachineCalls, ANumberThatWasGivenAwayIsNotGivenAwayAgain) {
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
TEST(JobMachineCalls, WhatLiesBeyondTheLedgerDoesNotCount) {
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
TEST(JobMachineCalls, ACheckpointThatComesAfterARewindIsNotGoneBackTo) {
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
TEST(JobMachineCalls, AResultThatIsStoredWhenItsHoldersAreLostEndsTheJob) {
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
TEST(JobMachineCalls, AResultThatNobodyHoldsIsTrainedAgain) {
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
TEST(JobMachineCalls, WhoMayHoldAVoidStateIsStartedAnewToBeginAfresh) {
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
TEST(JobMachineCalls, WhoMayHaveLoadedAStateForAnEarlierCoordinatorIsStartedAnewToBeginAfresh) {
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
TEST(JobMachineCalls, ACheckpointThatNobodyCouldSaveComesWithTheNextStep) {
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
TEST(JobMachineCalls, TheNewestCheckpointOfThisHistoryIsKept) {
  JobHistory history;
  history.last_commit = 6;
  history.checkpoints = {5, 10};
  Bench bench(history);
  bench.take();
  bench.machine->on_checkpoint_stored(6, bench.now);
  EXPECT_THAT(bench.take(), ElementsAre("keep 6"));
}

TEST(JobMachineCalls, TheLastCheckpointIsTriedByEachOfThoseWhoHoldIt) {
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

TEST(JobMachineCalls, AStopWaitsForTheCommitThatIsBeingWritten) {
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
TEST(JobMachineCalls, AResultThatIsKnownAlreadyFreesItsEvaluator) {
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

// ---- waiting ------------------------------------------------------------------------------------

TEST(JobMachineCalls, AMissedVerdictIsOnlyToldToThoseWhoWaitForThatVeryStep) {
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

TEST(JobMachineCalls, AStandstillOpensANewGeneration) {
  Bench bench;
  bench.run();
  for (const std::string role : {"worker-0", "worker-1"})
    bench.doing(role, "step 1: wait for commit");
  EXPECT_THAT(bench.after(seconds(59)), IsEmpty());
  EXPECT_THAT(bench.after(seconds(2)),
              ElementsAre("standstill", "generation 2 to worker-0", "generation 2 to worker-1"));
}

// The second loader cannot be at fault as well.
TEST(JobMachineCalls, WhoGetsNoBatchFromAnyLoaderIsTheCulprit) {
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

TEST(JobMachineCalls, NobodyIsBlamedWhileAllLoadersAreLost) {
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

TEST(JobMachineCalls, AWorkerThatDiesBeforeTheFirstGenerationIsWaitedFor) {
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

TEST(JobMachineCalls, FirstWorkersWaitForTheOthersButNotForEver) {
  Bench bench;
  bench.reg("worker-0", 10);
  bench.take();
  EXPECT_THAT(bench.after(seconds(59)), IsEmpty());
  EXPECT_THAT(bench.after(seconds(2)), ElementsAre("generation 1 to worker-0"));
}

}  // namespace
}  // namespace crabcast::actors
