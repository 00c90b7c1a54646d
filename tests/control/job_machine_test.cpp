// Runs in which nothing goes wrong, or a worker is lost, and how they go on (T-1, T-2, H-1).
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- nothing goes wrong ---------------------------------------------------------------------

TEST(JobMachine, FreshRunCommitsEveryStepOnce) {
  Cast cast(two_workers());
  EXPECT_EQ(cast.status().state(), pb::JOB_STARTING);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 2; }));
  EXPECT_EQ(cast.status().state(), pb::JOB_RUNNING);
  EXPECT_EQ(cast.status().workers_alive(), 2U);
  EXPECT_EQ(cast.status().steps(), 12U);
  expect_succeeded(cast);
  EXPECT_EQ(cast.status().state(), pb::JOB_SUCCEEDED);
  EXPECT_EQ(cast.generations.size(), 1U);
  EXPECT_EQ(cast.generations[0].state_source(), "fresh");
  EXPECT_EQ(cast.count("job_started"), 1U);
  EXPECT_EQ(cast.count("checkpoint_stored"), 3U);
  EXPECT_EQ(cast.all("evaluated").back().subject(), "12");
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_EQ(cast.ledger[4].members(), 2U);
  EXPECT_NEAR(cast.ledger[4].losses(0).loss_sum(), 4.0 / 5, 1e-9) << "one share of each lane";
}

TEST(JobMachine, OneWorkerHasAllLanes) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_EQ(cast.generations[0].members(0).lanes(), 4U);
}

TEST(JobMachine, LanesThatDoNotDivideEvenlyAreStillAPartition) {
  auto options = two_workers();
  options.spec.train.lanes = 5;
  options.spec.resources.workers_max = 3;
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_EQ(cast.generations[0].members(0).lanes(), 2U);
  EXPECT_EQ(cast.generations[0].members(2).lanes(), 1U);
}

TEST(JobMachine, EpochsBecomeStepsWhenALoaderTellsTheCorpus) {
  auto options = two_workers();
  options.spec.train.steps.reset();
  options.spec.train.epochs = 2;
  options.epoch_steps = 6;
  Cast cast(options);
  ASSERT_TRUE(cast.run_to_end());
  // The evaluator registered too, and knows of no steps.
  EXPECT_EQ(cast.finish->state, pb::JOB_SUCCEEDED);
  EXPECT_EQ(cast.committed(), 6U);
  EXPECT_EQ(cast.generations[0].steps(), 6U);
}

TEST(JobMachine, EvaluatorThatRegistersAfterTheLoaderLeavesTheStepsAlone) {
  auto options = two_workers();
  options.spec.train.steps.reset();
  options.spec.train.epochs = 1;
  options.epoch_steps = 300;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 2; }));
  cast.kill("evaluator-0");
  ASSERT_TRUE(
      cast.run_until([&] { return cast.starts["evaluator-0"] == 2 && cast.all_registered(); }));
  EXPECT_EQ(cast.status().steps(), 300U);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 100; }));
}

TEST(JobMachine, SlowEvaluatorSkipsOldCheckpointsAndScoresTheLast) {
  auto options = two_workers();
  options.spec.train.steps = 40;
  options.spec.checkpoint.keep_last = 1;
  options.pace.evaluate = seconds(3);
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_GT(cast.count("evaluation_skipped"), 0U);
  EXPECT_EQ(cast.count("evaluation_failed"), 0U) << "what waits for its evaluation is kept";
  EXPECT_EQ(cast.all("evaluated").back().subject(), "40");
}

// ---- a worker is lost -------------------------------------------------------------------------

TEST(WorkerLost, BeforeItRegistered) {
  Cast cast(two_workers());
  cast.at(milliseconds(200), [&] { cast.kill("worker-1"); });
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_EQ(incident.incident().last_operation(), "starting");
  EXPECT_GT(incident.incident().load_seconds(), 0.5) << "until its successor registered";
}

// Nobody holds a state yet that the others could go on with, so its successor is waited for.
TEST(WorkerLost, WhileTheFirstGenerationForms) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 1; }));
  cast.kill("worker-1");
  expect_succeeded(cast);
  only_incident(cast, "worker-1");
  ASSERT_EQ(cast.generations.size(), 2U);
  EXPECT_EQ(cast.generations[1].members_size(), 2);
  EXPECT_EQ(cast.generations[1].first_step(), 1U);
}

TEST(WorkerLost, WhileTheFirstGenerationFormsAndItsSuccessorIsNotWaitedForForEver) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 1; }));
  cast.never_start = {"worker-1"};
  cast.kill("worker-1");
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 2; }, seconds(61)));
  EXPECT_EQ(cast.generations[1].members_size(), 1);
  expect_succeeded(cast);
}

TEST(WorkerLost, WhileALaterGenerationForms) {
  auto options = two_workers();
  options.spec.train.steps = 40;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 3; }));
  cast.kill("worker-0");
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 3; }));
  cast.kill("worker-0");
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 4; }, milliseconds(10)));
  EXPECT_EQ(cast.generations[3].members_size(), 1) << "who holds the state goes on at once";
  expect_succeeded(cast);
}

TEST(WorkerLost, RightAfterItWasReadyForItsGeneration) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "form"); }));
  cast.run_for(milliseconds(3));
  cast.kill("worker-1");
  expect_succeeded(cast);
  EXPECT_EQ(only_incident(cast, "worker-1").incident().last_operation(), "form");
}

TEST(WorkerLost, WhileItComputes) {
  auto options = two_workers();
  options.spec.train.steps = 40;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 6: forward"); }));
  cast.kill("worker-1");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_THAT(incident.incident().last_operation(), HasSubstr("step"));
  EXPECT_THAT(incident.incident().evidence(), HasSubstr("SIGKILL"));
  EXPECT_LT(incident.incident().detect_seconds(), 0.6) << "the agent sees an exit at once";
  EXPECT_LT(incident.incident().decide_seconds(), 0.1) << "survivors go on at once";
  EXPECT_GT(incident.incident().redo_seconds(), 0.04) << "a step was computed again";
  EXPECT_THAT(cast.rewinds, IsEmpty());
  // Survivors first; the replacement joins later, at a step boundary, from a living peer.
  ASSERT_EQ(cast.generations.size(), 3U);
  EXPECT_EQ(cast.generations[1].members_size(), 1);
  EXPECT_EQ(cast.generations[1].first_step(), 6U);
  EXPECT_EQ(cast.generations[2].members_size(), 2);
  EXPECT_EQ(cast.generations[2].state_source(), "peer");
  EXPECT_EQ(cast.generations[2].source_role(), "worker-0");
  EXPECT_FALSE(cast.generations[2].members(0).needs_state());
  EXPECT_TRUE(cast.generations[2].members(1).needs_state());
}

TEST(WorkerLost, WhileTheCommitIsWritten) {
  auto options = two_workers();
  options.pace.ledger = milliseconds(300);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 6: wait for commit"); }));
  cast.run_for(milliseconds(100));
  ASSERT_EQ(cast.committed(), 5U);
  cast.kill("worker-1");
  expect_succeeded(cast);
  only_incident(cast, "worker-1");
  EXPECT_EQ(cast.generations[1].first_step(), 7U) << "step 6 is history, so it is not redone";
  EXPECT_EQ(cast.ledger[5].generation(), 1U);
}

TEST(WorkerLost, WhileItSavesACheckpoint) {
  auto options = two_workers();
  options.pace.save = seconds(1);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 4; }));
  cast.kill("worker-0");
  expect_succeeded(cast);
  only_incident(cast, "worker-0");
  ASSERT_EQ(cast.count("checkpoint_failed"), 1U);
  EXPECT_EQ(cast.all("checkpoint_failed")[0].subject(), "4");
}

// Two savers at the same time: each one's loss fails its own checkpoint, and no other.
TEST(WorkerLost, WhileAnEarlierSaverAndALaterOneSave) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  options.pace.start = milliseconds(100);
  options.pace.compute = milliseconds(150);
  options.pace.save = seconds(2);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 2; }));
  cast.kill("worker-0");                                               // worker-1 saves step 4
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 8; }));  // worker-0 is back and saves
  ASSERT_EQ(cast.generations.back().members_size(), 2);
  ASSERT_EQ(cast.count("checkpoint_stored"), 0U);
  cast.kill("worker-1");
  expect_succeeded(cast);
  ASSERT_EQ(cast.count("checkpoint_failed"), 1U);
  EXPECT_EQ(cast.all("checkpoint_failed")[0].subject(), "4");
  EXPECT_EQ(cast.all("checkpoint_stored")[0].subject(), "8");
}

TEST(WorkerLost, WhileTheFinalCheckpointIsSaved) {
  auto options = two_workers();
  options.pace.save = seconds(1);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  cast.run_for(milliseconds(100));
  cast.kill("worker-0");
  expect_succeeded(cast);
  only_incident(cast, "worker-0");
  EXPECT_EQ(cast.generations.size(), 1U) << "nothing is left to train";
}

TEST(WorkerLost, AllOfThemAfterTheLastStepButBeforeItIsStored) {
  auto options = two_workers();
  options.pace.save = milliseconds(150);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  ASSERT_TRUE(cast.store.contains(8));
  cast.run_for(milliseconds(50));
  cast.kill("worker-0");
  cast.kill("worker-1");
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, ElementsAre(8));
}

// The result is stored: workers are not needed for what is still evaluated.
TEST(WorkerLost, WhileTheLastCheckpointIsEvaluated) {
  auto options = two_workers();
  options.spec.failure.restarts = 0;
  options.pace.evaluate = seconds(30);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(12); }));
  cast.run_for(milliseconds(100));
  cast.kill("worker-0");
  cast.kill("worker-1");
  cast.kill("loader-0");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 3U);
  EXPECT_EQ(cast.count("restart_refused"), 0U);
  EXPECT_EQ(cast.all("evaluated").back().subject(), "12");
}

TEST(WorkerLost, OnlyTheConnection) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.break_link("worker-1");
  expect_succeeded(cast);
  only_incident(cast, "worker-1");
  EXPECT_EQ(cast.starts["worker-1"], 2) << "whatever cannot be reached is stopped";
}

// The member was quicker to connect again than the coordinator to notice: nothing is lost but what
// was under way, so its generation starts over.
TEST(WorkerLost, ConnectionThatIsBackBeforeItIsMissed) {
  auto options = two_workers();
  options.pace.compute = milliseconds(200);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 5: reduce"); }));
  cast.break_link("worker-1", seconds(2));
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_EQ(cast.starts["worker-1"], 1);
  EXPECT_GE(cast.generations.size(), 2U);
  EXPECT_THAT(cast.all("standstill"), IsEmpty());
}

}  // namespace
}  // namespace crabcast::actors
