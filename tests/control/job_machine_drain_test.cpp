// Members that leave in good order, processes that are lost again and again, and slow workers.
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- told to go -------------------------------------------------------------------------------

TEST(Drain, AWorkerLeavesBetweenTwoStepsAndAnotherOneComes) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.drain("worker-0");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_EQ(cast.count("left"), 1U);
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_EQ(cast.generations[1].members_size(), 1);
  EXPECT_EQ(cast.generations[1].first_step(), 7U) << "no step is done twice";
  EXPECT_EQ(cast.generations.back().members_size(), 2) << "its successor joined";
  EXPECT_EQ(cast.starts["worker-0"], 2);
  EXPECT_EQ(cast.count("restart"), 1U);
}

// Nobody else holds the state: it is saved first, and training goes on from there.
TEST(Drain, TheOnlyWorkerSavesItsStateFirst) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.drain("worker-0");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_TRUE(cast.store.contains(6)) << "saved out of turn";
  EXPECT_EQ(cast.generations[1].state_source(), "checkpoint");
  EXPECT_EQ(cast.generations[1].first_step(), 7U);
}

TEST(Drain, ALoaderAndAnEvaluatorLeaveAtOnce) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.drain("loader-0");
  cast.drain("evaluator-0");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_EQ(cast.count("left"), 2U);
  EXPECT_EQ(cast.starts["loader-0"], 2);
  EXPECT_EQ(cast.starts["evaluator-0"], 2);
}

TEST(Drain, WhoIsKilledBeforeItCouldLeaveIsAnIncident) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.drain("worker-0");
  cast.run_for(milliseconds(5));
  cast.kill("worker-0");
  expect_succeeded(cast);
  only_incident(cast, "worker-0");
}

// ---- scaled -----------------------------------------------------------------------------------

TEST(Scale, AJobGoesOnWithFewerWorkers) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.scale({"worker-1"}, 1);
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_EQ(cast.generations.back().members_size(), 1);
  EXPECT_EQ(cast.starts["worker-1"], 1) << "nobody takes its place";
  EXPECT_EQ(cast.status().workers_wanted(), 1U);
}

TEST(Scale, AWorkerThatIsStartingIsStopped) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.kill("worker-1");
  ASSERT_TRUE(cast.run_until([&] { return cast.starts["worker-1"] == 2; }));
  cast.scale({"worker-1"});
  expect_succeeded(cast);
  EXPECT_EQ(cast.generations.back().members_size(), 1);
  EXPECT_EQ(cast.starts["worker-1"], 2);
}

TEST(Scale, AWorkerThatWasGivenUpMayComeBack) {
  auto options = two_workers();
  options.spec.train.steps = 100;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.scale({"worker-1"}, 1);
  ASSERT_TRUE(cast.run_until([&] { return cast.count("left") == 1; }));
  cast.place("worker-1");
  expect_succeeded(cast);
  EXPECT_EQ(cast.generations.back().members_size(), 2);
  EXPECT_EQ(cast.starts["worker-1"], 2);
}

// ---- no progress ------------------------------------------------------------------------------

TEST(NoProgress, EndsTheJobAfterThreeTries) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  options.spec.failure.restarts = 100;
  Cast cast(options);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 1: forward"); }));
    cast.kill("worker-0");
    cast.run_for(milliseconds(50));
  }
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_FAILED);
  EXPECT_EQ(cast.finish->error.code, Errc::budget_exhausted);
  EXPECT_THAT(cast.finish->error.message, HasSubstr("worker-0 was lost 3 times"));
  EXPECT_THAT(cast.finish->error.message, HasSubstr("killed by SIGKILL"));
  EXPECT_EQ(cast.count("incident"), 3U);
}

TEST(NoProgress, IsNotWhenStepsAreCommittedBetween) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  options.spec.train.steps = 40;
  options.spec.failure.restarts = 100;
  Cast cast(options);
  for (std::uint64_t i = 1; i <= 6; ++i) {
    ASSERT_TRUE(cast.run_until([&] { return cast.committed() >= 5 * i; }));
    cast.kill("worker-0");
    ASSERT_TRUE(cast.run_until([&] { return cast.alive("worker-0"); }));
  }
  expect_succeeded(cast);
}

// ---- slow workers, and a coordinator that stood still -------------------------------------------

pb::StepReady step_of(std::uint64_t step, double forward_seconds) {
  pb::StepReady body;
  body.set_generation(1);
  body.set_step(step);
  body.set_finite(true);
  body.mutable_stages()->set_forward(forward_seconds);
  body.add_lanes();
  return body;
}

TEST(SlowWorker, IsSuspectAfterTenSlowSteps) {
  Bench bench;
  bench.run();
  std::vector<std::string> told;
  for (std::uint64_t step = 1; step <= 9; ++step) {
    bench.machine->on_step_ready("worker-0", step_of(step, 1.0), bench.now);
    bench.machine->on_step_ready("worker-1", step_of(step, 2.5), bench.now);
    bench.machine->on_commit_durable(step, bench.now);
  }
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_HEALTHY) << "nine steps are too few";
  bench.machine->on_step_ready("worker-0", step_of(10, 1.0), bench.now);
  bench.machine->on_step_ready("worker-1", step_of(10, 2.5), bench.now);
  bench.machine->on_commit_durable(10, bench.now);
  EXPECT_EQ(bench.actor("worker-1").state(), pb::ACTOR_SUSPECT);
  EXPECT_EQ(bench.actor("worker-0").state(), pb::ACTOR_HEALTHY);
}

TEST(SlowWatch, SaysOnceThatOneIsSlowAndThatItIsFineAgain) {
  SlowWatch watch;
  for (std::uint32_t i = 1; i < SlowWatch::kSteps; ++i)
    EXPECT_EQ(watch.see(2.1, 1), SlowWatch::Change::none);
  EXPECT_EQ(watch.see(2.1, 1), SlowWatch::Change::became_slow);
  EXPECT_EQ(watch.see(1.8, 1), SlowWatch::Change::none);
  EXPECT_EQ(watch.see(1.2, 1), SlowWatch::Change::recovered);
}

// Its machine was suspended: what the members said lies in the mailbox, and nobody is late by it.
TEST(OwnStandstill, IsForgiven) {
  Bench bench;
  bench.run();
  bench.doing("worker-0", "step 1: forward and backward");
  bench.doing("worker-1", "step 1: forward and backward");
  bench.after(seconds(1));
  bench.now += minutes(30);
  bench.machine->on_tick(bench.now);
  EXPECT_THAT(bench.take(), IsEmpty());
  const auto later = bench.after(seconds(61));
  EXPECT_THAT(later, Contains(HasSubstr("stop worker-")));
}

// Long enough for its peers to give it up: they are not to blame.
TEST(OwnStandstill, IsTheCulpritOfBrokenConnections) {
  Bench bench;
  bench.run();
  bench.after(seconds(1));
  bench.now += seconds(8);
  bench.machine->on_gone("worker-1", kConnectionLost, false, bench.now);  // heard before the tick
  bench.machine->on_tick(bench.now);
  bench.machine->on_gone("loader-0", kConnectionLost, false, bench.now);
  std::vector<std::string> blamed;
  for (const auto& action : bench.machine->take_actions())
    if (const auto* told = std::get_if<RecordEvent>(&action))
      if (told->event.severity() != pb::SEVERITY_INFO) blamed.push_back(told->event.kind());
  EXPECT_THAT(blamed, testing::ElementsAre("coordinator_stalled"));
  EXPECT_EQ(bench.machine->status(bench.now, 0).incidents(), 1U);
}

}  // namespace
}  // namespace crabcast::actors
