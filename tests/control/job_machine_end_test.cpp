// Checkpoints that fail, stop with keep in every phase, cancel, and the end of a job.
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"

namespace crabcast::actors {
namespace {

using testing::HasSubstr;

// ---- checkpoints --------------------------------------------------------------------------------

TEST(Checkpoints, AFailedOneNeverFailsTheJob) {
  Cast cast(two_workers());
  cast.failing_saves = 2;
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("checkpoint_failed"), 1U) << "a full disk is said once";
  EXPECT_THAT(cast.all("checkpoint_failed")[0].message(), HasSubstr("the job goes on"));
}

TEST(Checkpoints, AFullDiskIsSaidOnceUntilOneWasStored) {
  Cast cast(two_workers());
  cast.failing_saves = 1;
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(8); }));
  EXPECT_EQ(cast.count("checkpoint_failed"), 1U);
  cast.failing_saves = 2;  // of the last one
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("checkpoint_failed"), 2U);
}

TEST(Checkpoints, TheFinalOneIsTriedAgain) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  cast.failing_saves = 5;
  expect_succeeded(cast);
  EXPECT_EQ(cast.starts["worker-0"], 1);
}

TEST(Checkpoints, TheFinalOneIsNotTriedForEver) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 11; }));
  cast.failing_saves = 1000;
  ASSERT_TRUE(cast.run_to_end(minutes(10)));
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::disk_full);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("final checkpoint"));
}

TEST(Checkpoints, AnEarlierOneThatFailsLastDoesNotHoldUpTheEnd) {
  auto options = two_workers();
  options.spec.train.steps = 9;
  options.spec.resources.evaluators = 0;
  options.pace.save = milliseconds(50);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 7; }));
  cast.options.pace.save = seconds(5);  // of step 8
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 8; }));
  cast.run_for(milliseconds(30));
  cast.options.pace.save = milliseconds(50);
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(9); }));
  cast.failing_saves = 1;
  ASSERT_TRUE(cast.run_to_end(minutes(2)));
  EXPECT_EQ(cast.finish->state, pb::JOB_SUCCEEDED);
}

TEST(Checkpoints, OneThatNeverEndsIsGivenUp) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 3; }));
  cast.saves_never_end = true;
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  ASSERT_TRUE(cast.run_until([&] { return cast.count("checkpoint_failed") > 0; }, minutes(11)));
  cast.saves_never_end = false;
  expect_succeeded(cast);
  EXPECT_THAT(cast.all("checkpoint_failed")[0].message(), HasSubstr("in time"));
}

// ---- stop and cancel ----------------------------------------------------------------------------

TEST(Stop, BeforeAnybodyRegistered) {
  Cast cast(two_workers());
  cast.run_for(milliseconds(100));
  cast.stop(true);
  expect_stopped(cast, 0, 0);
}

TEST(Stop, WhileTheFirstGenerationForms) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 1; }));
  cast.stop(true);
  expect_stopped(cast, 0, 0);
}

TEST(Stop, WhileItRunsTheNextCommitIsSavedAndEndsTheJob) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.stop(true);
  EXPECT_EQ(cast.status().state(), pb::JOB_STOPPING);
  expect_stopped(cast, 6, 6);
  EXPECT_EQ(cast.count("job_stopped"), 1U);
}

TEST(Stop, NoFurtherStepIsCommittedWhileTheLastCheckpointIsSaved) {
  auto options = two_workers();
  options.spec.train.steps = 10000;
  options.pace.save = seconds(90);  // much slower than a step
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 2: forward"); }));
  cast.stop(true);
  expect_stopped(cast, 2, 2);
  EXPECT_EQ(cast.count("standstill"), 0U) << "they wait for a checkpoint, not for one another";
}

TEST(Stop, WhileACommitIsWritten) {
  auto options = two_workers();
  options.pace.ledger = milliseconds(300);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 6: wait for commit"); }));
  cast.run_for(milliseconds(100));
  cast.stop(true);
  expect_stopped(cast, 6, 6);
}

TEST(Stop, WhileACommitIsWrittenAndAWorkerIsLost) {
  auto options = two_workers();
  options.pace.ledger = milliseconds(300);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 6: wait for commit"); }));
  cast.run_for(milliseconds(100));
  cast.kill("worker-0");
  cast.run_for(milliseconds(50));
  cast.stop(true);
  expect_stopped(cast, 6, 6);
}

TEST(Stop, WhileWorkersAreMissingAnotherOneSaves) {
  auto options = two_workers();
  options.spec.resources.workers_min = 2;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("worker-0");
  cast.run_for(milliseconds(300));
  cast.stop(true);
  expect_stopped(cast, 5, 5);
}

TEST(Stop, WhileAGenerationFormsAgain) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("worker-0");
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 2; }));
  cast.stop(true);
  expect_stopped(cast, 6, 6);
}

TEST(Stop, WhileEverybodyIsLostTheNewestCheckpointIsTheLastWord) {
  auto options = two_workers();
  options.pace.save = milliseconds(50);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 6; }));
  cast.kill("worker-0");
  cast.kill("worker-1");
  cast.run_for(milliseconds(100));
  cast.stop(true);
  ASSERT_TRUE(cast.run_to_end(minutes(1)));
  EXPECT_EQ(cast.finish->state, pb::JOB_STOPPED);
  ASSERT_FALSE(cast.store.empty());
  EXPECT_EQ(cast.store.rbegin()->first, 4U);
}

TEST(Stop, AfterTheLastStepButBeforeItIsStored) {
  auto options = two_workers();
  options.pace.save = seconds(2);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  cast.run_for(milliseconds(100));
  cast.stop(true);
  expect_stopped(cast, 12, 12);
}

TEST(Stop, WhileTheLastCheckpointIsEvaluated) {
  auto options = two_workers();
  options.pace.evaluate = seconds(60);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(12); }));
  cast.run_for(milliseconds(100));
  cast.stop(true);
  expect_stopped(cast, 12, 12);
}

// The last checkpoint failed, and is tried again later: a stop does not wait for that.
TEST(Stop, WhileTheLastCheckpointWaitsToBeTriedAgain) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  cast.failing_saves = 5;
  ASSERT_TRUE(cast.run_until([&] { return cast.failing_saves == 0; }));
  const auto failed = cast.now();
  cast.run_for(seconds(1));  // of 32
  ASSERT_FALSE(cast.store.contains(12));
  cast.stop(true);
  expect_stopped(cast, 12, 12);
  EXPECT_LT(cast.now() - failed, seconds(3));
}

TEST(Stop, SaysWhenTheLastCheckpointCouldNotBeStored) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.failing_saves = 1000;
  cast.stop(true);
  ASSERT_TRUE(cast.run_to_end(minutes(1)));
  EXPECT_EQ(cast.finish->state, pb::JOB_STOPPED);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("could not be stored"));
}

TEST(Stop, SaysWhenNobodyIsLeftWhoCouldStoreTheLastSteps) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 6; }));
  cast.kill("worker-0");
  cast.kill("worker-1");
  cast.run_for(milliseconds(50));
  cast.stop(true);
  ASSERT_TRUE(cast.run_to_end(minutes(1)));
  EXPECT_EQ(cast.finish->state, pb::JOB_STOPPED);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("holds the state after step 6"));
}

TEST(Stop, TheSaverIsLostAndAnotherOneSaves) {
  auto options = two_workers();
  options.pace.save = seconds(2);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.stop(true);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 6; }));
  cast.run_for(milliseconds(500));
  cast.kill("worker-0");
  expect_stopped(cast, 6, 8);
}

TEST(Stop, OfAJobThatCannotGoOnKeepsWhatThereIs) {
  auto options = two_workers();
  options.spec.resources.workers_min = 2;
  options.spec.failure.restarts = 0;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.stop(true);
  cast.kill("worker-0");
  expect_stopped(cast, 5, 5);
}

TEST(Cancel, EndsTheJobAtOnce) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.stop(false);
  ASSERT_TRUE(cast.run_to_end(seconds(2)));
  EXPECT_EQ(cast.finish->state, pb::JOB_CANCELLED);
  EXPECT_EQ(cast.count("job_cancelled"), 1U);
  EXPECT_TRUE(cast.living(pb::ROLE_WORKER).empty());
}

TEST(Cancel, OfAJobThatIsStopping) {
  auto options = two_workers();
  options.pace.save = seconds(100);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.stop(true);
  cast.run_for(seconds(1));
  cast.stop(false);
  ASSERT_TRUE(cast.run_to_end(seconds(2)));
  EXPECT_EQ(cast.finish->state, pb::JOB_CANCELLED);
}

TEST(Cancel, WhoDoesNotLeaveIsKilled) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.hang("worker-1");
  cast.stop(false);
  ASSERT_TRUE(cast.run_to_end(seconds(25)));
  EXPECT_TRUE(cast.living(pb::ROLE_WORKER).empty());
  EXPECT_EQ(cast.count("incident"), 0U);
}

}  // namespace
}  // namespace crabcast::actors
