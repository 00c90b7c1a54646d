// The simulated cast itself: the run in which nothing goes wrong, and that a run can be replayed.
#include "tests/control/simulated_cast.h"

namespace crabcast::actors {
namespace {

CastOptions small_job() {
  CastOptions options;
  options.spec.name = "job";
  options.spec.train.steps = 8;
  options.spec.train.lanes = 3;
  options.spec.resources.workers_max = 2;
  options.spec.checkpoint.every_steps = 4;
  options.spec.evaluate.every_steps = 4;
  return options;
}

TEST(SimulatedCast, PlaysAWholeJob) {
  Cast cast(small_job());
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_SUCCEEDED);
  EXPECT_EQ(cast.committed(), 8U);
  EXPECT_EQ(cast.store.size(), 2U);
  EXPECT_TRUE(cast.living(pb::ROLE_WORKER).empty());
}

TEST(SimulatedCast, TheSameSeedPlaysTheSameRun) {
  const auto play = [](std::uint64_t seed) {
    auto options = small_job();
    options.seed = seed;
    options.pace.jitter = 3;
    Cast cast(options);
    EXPECT_TRUE(cast.run_to_end());
    return cast.now();
  };
  EXPECT_EQ(play(5), play(5));
  EXPECT_NE(play(5), play(6));
}

TEST(SimulatedMembers, StatesDifferFromStepToStepUnlessSkipped) {
  CastOptions options;
  options.non_finite = {3};
  Cast cast(options);
  EXPECT_NE(cast.expected_state(1), cast.expected_state(2));
  EXPECT_EQ(cast.expected_state(2), cast.expected_state(3));
  EXPECT_NE(cast.expected_state(3), cast.expected_state(4));
}

}  // namespace
}  // namespace crabcast::actors
