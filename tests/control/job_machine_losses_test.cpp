// All workers are lost, a loader, an evaluator: how the job goes on (T-2, C-2, H-1).
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- everybody is lost --------------------------------------------------------------------------

// The end of the second one is heard after that of the first: its generation of one is opened, and
// dropped at once.
TEST(AllWorkersLost, TrainingGoesOnFromTheNewestCheckpoint) {
  auto options = two_workers();
  options.pace.save = milliseconds(50);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 10; }));
  cast.kill("worker-0");
  cast.kill("worker-1");
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, ElementsAre(8));
  EXPECT_EQ(cast.count("rewind"), 1U);
  EXPECT_EQ(cast.count("incident"), 2U);
  ASSERT_EQ(cast.generations.size(), 3U);
  EXPECT_EQ(cast.generations[1].state_source(), "peer");
  EXPECT_EQ(cast.generations[2].state_source(), "checkpoint");
  EXPECT_EQ(cast.generations[2].source_checkpoint(), 8U);
}

TEST(AllWorkersLost, NobodyGoesOnFromACheckpointThatDoesNotVerify) {
  auto options = two_workers();
  options.pace.save = milliseconds(50);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 10; }));
  ASSERT_TRUE(cast.store.contains(8));
  cast.corrupt = {8};
  cast.kill("worker-0");
  cast.kill("worker-1");
  ASSERT_TRUE(cast.run_until([&] { return !cast.rewinds.empty(); }));
  EXPECT_THAT(cast.rewinds, ElementsAre(4));
  EXPECT_EQ(cast.status().newest_checkpoint(), 4U) << "the bad one does not count any more";
  expect_succeeded(cast);
}

// What was known of the steps that are done again is void.
TEST(AllWorkersLost, StepsThatAreDoneAgainAreScoredAndMeasuredAnew) {
  auto options = two_workers();
  options.pace.save = milliseconds(20);
  options.pace.evaluate = milliseconds(20);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 9; }));
  ASSERT_EQ(cast.all("evaluated").back().subject(), "8");
  ASSERT_EQ(cast.status().losses(0).tokens(), 9U * 4U) << "one token of each lane and step";
  cast.corrupt = {8};
  cast.kill("worker-0");
  cast.kill("worker-1");
  ASSERT_TRUE(cast.run_until([&] { return !cast.rewinds.empty() && cast.committed() == 6; }));
  EXPECT_THAT(cast.rewinds, ElementsAre(4));
  EXPECT_EQ(cast.status().losses(0).tokens(), 2U * 4U);
  EXPECT_NEAR(cast.status().samples_per_second(), 4 / 0.06, 20) << "the pause is no step";
  expect_succeeded(cast);
  std::vector<std::string> scored;
  for (const auto& event : cast.all("evaluated")) scored.push_back(event.subject());
  EXPECT_THAT(scored, ElementsAre("4", "8", "8", "12"));
}

TEST(AllWorkersLost, WithoutACheckpointTheyBeginAfresh) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 3; }));
  cast.kill("worker-0");
  cast.kill("worker-1");
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, ElementsAre(0));
  ASSERT_EQ(cast.generations.size(), 3U);
  EXPECT_EQ(cast.generations[2].state_source(), "fresh");
}

// A checkpoint that is being written may become the newest: nobody looks for one before it is done.
TEST(AllWorkersLost, StateThatComesBackMeanwhileIsUsed) {
  auto options = two_workers();
  options.pace.ledger = seconds(2);  // looking for a checkpoint takes long
  options.spec.train.steps = 6;
  options.pace.compute = milliseconds(5);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.restart_coordinator(seconds(1));
  cast.kill("worker-0");
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_EQ(cast.finish->state, pb::JOB_SUCCEEDED);
}

// ---- loaders and evaluators ---------------------------------------------------------------------

TEST(LoaderLost, IsStartedAgainWithoutANewGeneration) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("loader-0");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "loader-0");
  EXPECT_GT(incident.incident().load_seconds(), 0.5);
  EXPECT_EQ(cast.generations.size(), 1U);
}

TEST(LoaderLost, HangsAndIsTheCulpritOfThoseThatWaitForBatches) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.hang("loader-0");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "loader-0");
  EXPECT_THAT(incident.incident().evidence(), HasSubstr("no batch"));
  EXPECT_NEAR(incident.incident().detect_seconds(), 60, 2);
  EXPECT_EQ(cast.starts["worker-0"], 1);
  EXPECT_EQ(cast.starts["worker-1"], 1);
}

TEST(EvaluatorLost, TheEvaluationIsDoneAgain) {
  auto options = two_workers();
  options.pace.compute = milliseconds(500);  // it is back before the next checkpoint comes
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "evaluator-0", "evaluate"); }));
  cast.kill("evaluator-0");
  expect_succeeded(cast);
  only_incident(cast, "evaluator-0");
  EXPECT_EQ(cast.all("evaluated")[0].subject(), "4");
  EXPECT_EQ(cast.generations.size(), 1U);
}

TEST(EvaluatorLost, HangsAndIsReplacedWhenItsTimeIsOver) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(12); }));
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "evaluator-0", "evaluate"); }));
  cast.hang("evaluator-0");
  expect_succeeded(cast);
  const auto incidents = cast.all("incident");
  ASSERT_EQ(incidents.size(), 1U);
  EXPECT_NEAR(incidents[0].incident().detect_seconds(), 30 * 60, 2);
}

// A checkpoint on which every evaluator dies is given up; it does not eat the restart budget.
TEST(EvaluatorLost, AgainAndAgainOnOneCheckpoint) {
  auto options = two_workers();
  options.spec.evaluate.every_steps = 12;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] {
    if (does(cast, "evaluator-0", "evaluate")) cast.kill("evaluator-0");
    return cast.finish.has_value();
  }));
  EXPECT_EQ(cast.finish->state, pb::JOB_SUCCEEDED);
  EXPECT_EQ(cast.lost["evaluator-0"], 3);
  EXPECT_EQ(cast.count("evaluation_failed"), 3U);
}

TEST(EvaluatorLost, ForGoodTheJobStillSucceeds) {
  auto options = two_workers();
  options.spec.failure.restarts = 0;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("evaluator-0");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("restart_refused"), 1U);
  only_incident(cast, "evaluator-0");
}

}  // namespace
}  // namespace crabcast::actors
