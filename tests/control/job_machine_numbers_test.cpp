// Numbers that go wrong: disagreement between members, values that are not finite, losses that
// jump.
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CastOptions three_workers() {
  auto options = two_workers();
  options.spec.resources.workers_max = 3;
  options.spec.resources.workers_min = 3;
  return options;
}

// ---- disagreement -----------------------------------------------------------------------------

TEST(Disagreement, TheMajorityNamesTheOneThatIsWrong) {
  Cast cast(three_workers());
  cast.wrong_once = {{"worker-1", 10}};
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_THAT(incident.incident().evidence(),
              HasSubstr("disagreed with the majority about step 10"));
  ASSERT_EQ(cast.count("corruption"), 1U);
  EXPECT_THAT(cast.all("corruption")[0].message(), HasSubstr("node-a"));
  EXPECT_THAT(cast.rewinds, IsEmpty()) << "the others keep their state";
  EXPECT_EQ(cast.starts["worker-1"], 2);
}

TEST(Disagreement, OfTwoIsDecidedByComputingTheStepAgain) {
  Cast cast(two_workers());
  cast.wrong_once = {{"worker-1", 10}};
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("disagreement"), 1U);
  const auto incident = only_incident(cast, "worker-1");
  EXPECT_THAT(incident.incident().evidence(), HasSubstr("computed again gave other numbers"));
  EXPECT_THAT(cast.rewinds, IsEmpty()) << "nobody's parameters are in doubt";
  EXPECT_EQ(cast.starts["worker-0"], 1);
  EXPECT_EQ(cast.starts["worker-1"], 2);
}

// worker-0 updates its parameters wrongly in a step whose state it saves: that is found out in the
// next step, and then neither its state nor what it saved is trusted.
TEST(Disagreement, AboutTheParametersVoidsTheirCheckpoint) {
  auto options = two_workers();
  options.pace.save = milliseconds(20);
  Cast cast(options);
  cast.wrong_update_once = {{"worker-0", 8}};
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(8); })) << "the wrong state is saved";
  ASSERT_TRUE(cast.run_until([&] { return cast.count("disagreement") == 1; }));
  EXPECT_FALSE(cast.store.contains(8));
  EXPECT_EQ(cast.committed(), 8U);
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, ElementsAre(4));
  EXPECT_EQ(cast.store.at(12), cast.expected_state(12));
  only_incident(cast, "worker-0");
}

TEST(Disagreement, AboutTheParametersWithoutACheckpointBeginsAfresh) {
  Cast cast(two_workers());
  cast.wrong_update_once = {{"worker-1", 2}};
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, ElementsAre(0));
  EXPECT_EQ(cast.starts["worker-0"], 2) << "a process that has trained cannot begin afresh";
  EXPECT_EQ(cast.store.at(12), cast.expected_state(12));
}

// ---- not finite, and spikes -------------------------------------------------------------------

CastOptions rolling_back(std::uint64_t steps) {
  auto options = two_workers();
  options.spec.failure.non_finite = NonFinitePolicy::rollback;
  options.spec.failure.rollback_steps = steps;
  return options;
}

std::vector<std::uint64_t> skipped_of(const Cast& cast) {
  std::vector<std::uint64_t> steps;
  for (const auto& record : cast.ledger)
    if (record.skipped()) steps.push_back(record.step());
  return steps;
}

TEST(Rollback, UndoesTheUpdatesOfTheStepsBefore) {
  auto options = rolling_back(3);
  options.non_finite = {10};
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("rollback"), 1U);
  EXPECT_THAT(cast.rewinds, ElementsAre(4)) << "the newest checkpoint before step 8";
  EXPECT_THAT(skipped_of(cast), ElementsAre(8, 9, 10));
  EXPECT_EQ(cast.store.at(12), cast.expected_state(12));
  EXPECT_EQ(cast.count("incident"), 0U);
  // S-2: the samples of the batch are told.
  EXPECT_THAT(cast.all("non_finite")[0].message(), HasSubstr("ks:10, ucf:10, meld:10, mer24:10"));
}

TEST(Rollback, OfTheBadStepAloneNeedsNoCheckpoint) {
  auto options = rolling_back(1);
  options.non_finite = {6};
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_THAT(skipped_of(cast), ElementsAre(6));
}

TEST(Rollback, BeyondTheFirstStepBeginsAfresh) {
  auto options = rolling_back(50);
  options.non_finite = {3};
  Cast cast(options);
  expect_succeeded(cast);
  EXPECT_THAT(skipped_of(cast), ElementsAre(1, 2, 3));
}

TEST(Rollback, SurvivesItsCoordinator) {
  for (int tick = 0; tick < 30; ++tick) {
    auto options = rolling_back(3);
    options.non_finite = {10};
    Cast cast(options);
    ASSERT_TRUE(cast.run_until([&] { return cast.count("rollback") == 1; }));
    cast.run_for(milliseconds(3 * tick));
    cast.restart_coordinator(seconds(1));
    expect_succeeded(cast);
    EXPECT_THAT(skipped_of(cast), ElementsAre(8, 9, 10)) << tick;
    EXPECT_EQ(cast.store.at(12), cast.expected_state(12)) << tick;
  }
}

// A checkpoint of a history that was given up is never loaded.
TEST(Rollback, VoidsWhatWasSavedSince) {
  auto options = rolling_back(5);
  options.non_finite = {10};
  options.pace.save = milliseconds(10);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(8); }));
  ASSERT_TRUE(cast.run_until([&] { return cast.count("rollback") == 1; }));
  EXPECT_FALSE(cast.store.contains(8));
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 7; }));
  for (const auto& worker : cast.living(pb::ROLE_WORKER)) cast.kill(worker);
  expect_succeeded(cast);
  EXPECT_EQ(cast.store.at(12), cast.expected_state(12));
}

TEST(Rollback, DrawsOnTheBudget) {
  auto options = rolling_back(2);
  options.non_finite = {4, 8, 11};
  options.spec.failure.restarts = 2;
  Cast cast(options);
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::non_finite);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("failure.restarts"));
}

TEST(LossSpike, IsSkippedLikeAStepThatIsNotFinite) {
  auto options = two_workers();
  options.spec.train.steps = 40;
  options.spec.failure.loss_spike = 4;
  options.spikes = {{5, 100.0}, {30, 100.0}};  // the first comes before anything is usual
  Cast cast(options);
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_THAT(skipped_of(cast), ElementsAre(30));
  EXPECT_THAT(cast.all("non_finite")[0].message(), HasSubstr("failure.loss_spike"));
}

// T-2: what is a spike does not depend on what failed before.
TEST(LossSpike, IsOneWhateverFailedBefore) {
  auto options = two_workers();
  options.spec.train.steps = 40;
  options.spec.failure.loss_spike = 4;
  options.spikes = {{30, 100.0}};
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 27; }));
  cast.restart_coordinator(seconds(1));
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_THAT(skipped_of(cast), ElementsAre(30));
  Cast again(options);
  ASSERT_TRUE(again.run_until([&] { return again.committed() == 29; }));
  for (const auto& worker : again.living(pb::ROLE_WORKER)) again.kill(worker);
  ASSERT_TRUE(again.run_to_end());
  EXPECT_THAT(skipped_of(again), ElementsAre(30));
}

TEST(LossWatch, NeedsEnoughStepsAndForgetsOldOnes) {
  LossWatch watch;
  for (std::size_t i = 0; i < LossWatch::kLeast - 1; ++i) watch.add(10);
  EXPECT_FALSE(watch.spike(1000, 4));
  watch.add(10);
  EXPECT_EQ(watch.spike(1000, 4), 10);
  EXPECT_FALSE(watch.spike(40, 4));
  for (std::size_t i = 0; i < LossWatch::kWindow; ++i) watch.add(1);
  EXPECT_EQ(watch.spike(5, 4), 1);
}

}  // namespace
}  // namespace crabcast::actors
