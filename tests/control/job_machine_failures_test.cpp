// Budgets and timeouts, bad numbers, members that do not fit.
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- budgets and timeouts -----------------------------------------------------------------------

TEST(Budget, TheJobFailsWhenItIsUsedUp) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  options.spec.failure.restarts = 2;
  options.spec.train.steps = 1000;
  options.timeouts.losses_without_progress = 100;
  Cast cast(options);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "forward"); }));
    cast.kill("worker-0");
    cast.run_for(milliseconds(50));
  }
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::budget_exhausted);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("no worker is left"));
  EXPECT_THAT(cast.finish->error.message, HasSubstr("failure.restarts"));
  EXPECT_EQ(cast.count("incident"), 3U);
}

TEST(Budget, IsThatOfTheJobAndNotOfItsCoordinator) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  options.spec.failure.restarts = 2;
  options.spec.train.steps = 1000;
  Cast cast(options);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "forward"); }));
    cast.restart_coordinator(seconds(1));
    ASSERT_TRUE(cast.run_until([&] { return cast.all_registered(); }));
    cast.kill("worker-0");
    cast.run_for(milliseconds(50));
  }
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->error.code, Errc::budget_exhausted);
}

// Two workers are needed to train, but one is enough to store what was trained.
TEST(Budget, IsNotNeededAnyMoreWhenAllIsTrained) {
  auto options = two_workers();
  options.spec.resources.workers_min = 2;
  options.spec.failure.restarts = 0;
  options.pace.save = seconds(1);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  cast.run_for(milliseconds(100));
  cast.kill("worker-0");  // which was saving
  cast.kill("loader-0");
  expect_succeeded(cast);
}

TEST(Budget, OneWorkerMayBeLostForGoodWhenTheOthersAreEnough) {
  auto options = two_workers();
  options.spec.failure.restarts = 0;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("worker-0");
  expect_succeeded(cast);
  EXPECT_EQ(cast.generations.back().members_size(), 1);
}

TEST(Budget, TheJobFailsWhenTooFewWorkersAreLeft) {
  auto options = two_workers();
  options.spec.resources.workers_min = 2;
  options.spec.failure.restarts = 0;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("worker-0");
  ASSERT_TRUE(cast.run_to_end(minutes(5))) << "it would wait for ever";
  EXPECT_EQ(cast.finish->error.code, Errc::budget_exhausted);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("only 1 worker of at least 2"));
}

TEST(Budget, WaitsLongerBeforeEachRestart) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  options.timeouts.losses_without_progress = 100;
  Cast cast(options);
  cast.cannot_start = {"worker-0"};
  std::vector<double> waits;
  auto last = cast.now();
  for (int i = 1; i <= 6; ++i) {
    ASSERT_TRUE(cast.run_until([&] { return cast.starts["worker-0"] == i + 1; }));
    waits.push_back(crabcast::seconds(cast.now() - last));
    last = cast.now();
  }
  for (std::size_t i = 1; i < waits.size(); ++i) EXPECT_NEAR(waits[i], 2 * waits[i - 1], 0.35);
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.starts["worker-0"], 11) << "the first, and failure.restarts more";
  EXPECT_EQ(cast.finish->error.code, Errc::budget_exhausted);
}

TEST(Timeouts, ProcessThatDoesNotRegisterIsReplaced) {
  Cast cast(two_workers());
  cast.never_start = {"worker-1"};
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 1; }));
  EXPECT_GT(cast.now() - TimePoint(std::chrono::hours(1)), seconds(60)) << "others were waited for";
  EXPECT_EQ(cast.generations[0].members_size(), 1);
  auto options = two_workers();
  options.spec.train.steps = 4000;
  Cast longer(options);
  longer.never_start = {"worker-1"};
  longer.at(seconds(100), [&] { longer.never_start.clear(); });
  ASSERT_TRUE(longer.run_until([&] { return longer.count("incident") == 1; }));
  const auto incident = only_incident(longer, "worker-1");
  EXPECT_THAT(incident.incident().evidence(), HasSubstr("did not register within 120 s"));
  EXPECT_NEAR(incident.incident().detect_seconds(), 120, 1);
  ASSERT_TRUE(longer.run_until([&] { return longer.generations.size() == 2; }));
  EXPECT_EQ(longer.generations[1].members_size(), 2);
}

TEST(Timeouts, MemberThatIsNotReadyForAGenerationIsReplaced) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "load state"); }));
  cast.hang("worker-1");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_NEAR(incident.incident().detect_seconds(), 30, 1);
  EXPECT_EQ(cast.starts["worker-0"], 1);
}

TEST(Timeouts, WhoWaitsForAPeersStateIsNotTheCulprit) {
  auto options = two_workers();
  options.spec.train.steps = 40;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 3; }));
  cast.kill("worker-0");  // comes back, sorts first, and copies from worker-1
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 3; }));
  ASSERT_EQ(cast.generations[2].source_role(), "worker-1");
  cast.hang("worker-1");
  expect_succeeded(cast);
  const auto incidents = cast.all("incident");
  ASSERT_EQ(incidents.size(), 2U);
  EXPECT_EQ(cast.lost["worker-1"], 1);
  EXPECT_EQ(cast.lost["worker-0"], 1);
}

TEST(Timeouts, HangNamesWhoStandsStillAndNotWhoWaits) {
  for (const std::string culprit : {"worker-0", "worker-1"}) {
    Cast cast(two_workers());
    ASSERT_TRUE(cast.run_until([&] { return does(cast, culprit, "step 6: forward"); }));
    cast.hang(culprit);
    expect_succeeded(cast);
    const auto incident = only_incident(cast, culprit);
    EXPECT_NEAR(incident.incident().detect_seconds(), 5, 0.5);
    EXPECT_THAT(incident.incident().last_operation(), HasSubstr("step 6: forward"));
    EXPECT_THAT(incident.incident().evidence(), HasSubstr("the slowest of the last steps"));
    EXPECT_THAT(cast.rewinds, IsEmpty());
  }
}

TEST(Timeouts, WhatIsTakenForAHangIsLearnedFromTheLastSteps) {
  for (const auto& [compute, at_least, at_most] : {std::tuple(milliseconds(100), 5.0, 5.5),
                                                   {seconds(4), 12.0, 14.5},
                                                   {seconds(30), 60., 61.}}) {
    auto options = two_workers();
    options.pace.compute = compute;
    Cast cast(options);
    ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 6: forward"); }));
    cast.hang("worker-1");
    expect_succeeded(cast);
    const auto incident = only_incident(cast, "worker-1");
    EXPECT_GE(incident.incident().detect_seconds(), at_least);
    EXPECT_LE(incident.incident().detect_seconds(), at_most);
  }
}

// A generation's first steps say little about the next ones.
TEST(Timeouts, HangInAFirstStepIsOneAfterTheSpecsLimit) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 1: forward"); }));
  cast.hang("worker-1");
  expect_succeeded(cast);
  EXPECT_NEAR(only_incident(cast, "worker-1").incident().detect_seconds(), 60, 2);
}

// After the last step only its saver owes anything.
TEST(Timeouts, SaverThatHangsAfterTheLastStepIsReplaced) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 12: optimizer"); }));
  cast.hang("worker-0");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-0");
  EXPECT_NEAR(incident.incident().detect_seconds(), 60, 2);
  EXPECT_THAT(cast.rewinds, IsEmpty()) << "worker-1 holds the result too";
}

TEST(Timeouts, SaverThatNeverEndsAfterTheLastStepIsReplaced) {
  auto options = two_workers();
  options.timeouts.checkpoint = seconds(60);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 11; }));
  cast.saves_never_end = true;
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 12; }));
  cast.run_for(seconds(1));
  cast.saves_never_end = false;
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-0");
  EXPECT_THAT(incident.incident().evidence(), HasSubstr("did not save checkpoint 12 in time"));
  EXPECT_THAT(cast.rewinds, IsEmpty());
}

TEST(Timeouts, ProcessThatIsFrozenIsReplaced) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 6: forward"); }));
  cast.freeze("worker-1");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_NEAR(incident.incident().detect_seconds(), 5, 0.6);
}

TEST(Timeouts, MemberThatFaultsAgainAndAgainIsStartedAnew) {
  auto options = two_workers();
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 5: forward"); }));
  for (std::size_t generation = 2; generation <= 3; ++generation) {
    cast.fail_collective("worker-1");
    ASSERT_TRUE(cast.run_until(
        [&] { return cast.generations.size() == generation && does(cast, "worker-1", "form"); }));
    ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 5: forward"); }));
  }
  cast.fail_collective("worker-1");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_THAT(incident.incident().evidence(), HasSubstr("3 times in a row"));
}

TEST(Timeouts, OneFaultOpensANewGenerationOfTheSameMembers) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-1", "step 5: forward"); }));
  cast.fail_collective("worker-1");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_EQ(cast.generations.size(), 2U);
  EXPECT_EQ(cast.generations[1].first_step(), 5U);
  EXPECT_EQ(cast.count("member_fault"), 1U) << "those that it interrupts do not count";
}

// ---- bad numbers --------------------------------------------------------------------------------

TEST(Disagreement, EndsTheJobWhenTheBudgetIsUsedUp) {
  auto options = two_workers();
  options.spec.failure.restarts = 0;
  Cast cast(options);
  cast.wrong_once = {{"worker-1", 6}};
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::corrupt);
  EXPECT_EQ(cast.committed(), 5U);
}

TEST(NonFinite, SkippedStepsAreHistoryWithoutAnUpdate) {
  auto options = two_workers();
  options.non_finite = {3, 7};
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_TRUE(cast.ledger[2].skipped());
  EXPECT_TRUE(cast.ledger[6].skipped());
  EXPECT_FALSE(cast.ledger[3].skipped());
  EXPECT_EQ(cast.count("non_finite"), 2U);
}

TEST(NonFinite, SkippedStepAtACheckpointIsSavedWithTheNextOne) {
  auto options = two_workers();
  options.non_finite = {4, 12};
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_TRUE(cast.all("checkpoint_stored")[0].subject() == "5");
}

TEST(NonFinite, StopsTheJobWhenItIsAskedTo) {
  auto options = two_workers();
  options.spec.failure.non_finite = NonFinitePolicy::stop;
  options.non_finite = {3};
  Cast cast(options);
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::non_finite);
  EXPECT_EQ(cast.committed(), 2U);
}

TEST(Members, MustSeeTheSameBase) {
  auto options = two_workers();
  options.base = {{"worker-1", "another"}};
  Cast cast(options);
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::invalid_argument);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("another base"));
}

TEST(Members, FatalFaultEndsTheJobWithItsReason) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 2; }));
  cast.fatal_fault("loader-0", Errc::data_error, "no such folder");
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::data_error);
  EXPECT_EQ(cast.finish->error.message, "loader-0: no such folder");
  EXPECT_TRUE(cast.living(pb::ROLE_WORKER).empty());
}

}  // namespace
}  // namespace crabcast::actors
