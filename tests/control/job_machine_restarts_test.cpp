// Members that join, a coordinator or an agent that restarts, nodes that go away.
#include <gmock/gmock.h>

#include "tests/control/cast_helpers.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- elastic ------------------------------------------------------------------------------------

TEST(Elastic, AWorkerJoinsAtAStepBoundaryAndCopiesFromAPeer) {
  auto options = two_workers();
  options.spec.resources.workers_max = 1;
  options.spec.train.steps = 60;
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.place("worker-1", "node-b");
  expect_succeeded(cast);
  ASSERT_EQ(cast.generations.size(), 2U);
  EXPECT_EQ(cast.generations[1].members_size(), 2);
  EXPECT_EQ(cast.generations[1].state_source(), "peer");
  EXPECT_THAT(cast.generations[1].reason(), HasSubstr("worker-1 joined"));
  EXPECT_EQ(cast.count("incident"), 0U);
  EXPECT_EQ(cast.count("member_fault"), 0U);
}

// ---- the coordinator restarts -------------------------------------------------------------------

TEST(CoordinatorRestart, MembersKeepTheirStateAndGoOn) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return does(cast, "worker-0", "step 6: forward"); }));
  cast.restart_coordinator(seconds(2));
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_EQ(cast.starts["worker-0"], 2) << "asked for again, and refused because it runs";
  only_incident(cast, "coordinator");
  EXPECT_EQ(cast.count("restart"), 0U);
}

TEST(CoordinatorRestart, TheStepInFlightIsAppliedWhenItBecameDurable) {
  for (const bool durable : {true, false}) {
    for (const bool skipped : {true, false}) {
      auto options = two_workers();
      options.pace.ledger = milliseconds(300);
      if (skipped) options.non_finite = {6};
      Cast cast(options);
      ASSERT_TRUE(
          cast.run_until([&] { return does(cast, "worker-1", "step 6: wait for commit"); }));
      cast.run_for(milliseconds(100));
      cast.restart_coordinator(seconds(2), durable);
      EXPECT_EQ(cast.committed(), durable ? 6U : 5U);
      expect_succeeded(cast);
      EXPECT_THAT(cast.rewinds, IsEmpty()) << "durable " << durable << ", skipped " << skipped;
      EXPECT_EQ(cast.generations[1].first_step(), durable ? 7U : 6U);
    }
  }
}

TEST(CoordinatorRestart, MembersDoNotWaitForItForEver) {
  auto options = two_workers();
  options.pace.save = milliseconds(20);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 6; }));
  cast.restart_coordinator(seconds(90));
  cast.run_for(seconds(61));
  EXPECT_THAT(cast.living(pb::ROLE_WORKER), IsEmpty());
  expect_succeeded(cast);
  EXPECT_THAT(cast.rewinds, ElementsAre(4));
  EXPECT_EQ(cast.count("incident"), 5U) << "its own, and theirs";
}

// Its number was given to members, but no commit tells the next coordinator of it.
TEST(CoordinatorRestart, AGenerationWithoutACommitDoesNotLendItsNumber) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("worker-1");
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.size() == 2; }));
  cast.run_for(milliseconds(10));
  ASSERT_EQ(cast.ledger.back().generation(), 1U);
  cast.restart_coordinator(milliseconds(500));
  expect_succeeded(cast);
}

TEST(CoordinatorRestart, WhatWasNotEvaluatedIsEvaluated) {
  auto options = two_workers();
  options.pace.evaluate = seconds(20);
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.store.contains(12); }));
  cast.run_for(milliseconds(500));
  cast.restart_coordinator(seconds(1));
  expect_succeeded(cast);
  EXPECT_EQ(cast.all("evaluated").back().subject(), "12");
}

TEST(CoordinatorRestart, AProcessThatDiedMeanwhileIsReplaced) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.restart_coordinator(seconds(2));
  cast.kill("worker-1");
  expect_succeeded(cast);
  EXPECT_EQ(cast.lost, (std::map<std::string, int>{{"coordinator", 1}, {"worker-1", 1}}));
  EXPECT_EQ(cast.count("incident"), 2U);
}

// The process that died and its successor are told apart although the coordinator knew neither.
TEST(CoordinatorRestart, AProcessThatDiesAsItComesBackIsReplacedOnce) {
  auto options = two_workers();
  options.pace.start = milliseconds(50);  // its successor registers before it seems to be due
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.restart_coordinator(seconds(1));
  cast.run_for(milliseconds(999));
  cast.kill("worker-1");
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 2U);
  EXPECT_LT(cast.now() - TimePoint(std::chrono::hours(1)), minutes(1));
}

TEST(AgentLost, AProcessLeftBehindOnItsOldNodeIsStopped) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  options.on_node_b = {"worker-1"};
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  const auto left_behind = cast.process("worker-1");
  cast.lose_agent(seconds(2), "node-b");
  cast.place("worker-1", "node-a");
  ASSERT_TRUE(cast.run_until([&] { return cast.generations.back().members_size() == 2; }));
  EXPECT_EQ(cast.machine().node_of("worker-1"), "node-a");
  ASSERT_TRUE(cast.run_until([&] { return !left_behind->alive; }, seconds(3)));
  expect_succeeded(cast);
  EXPECT_EQ(cast.count("incident"), 1U);
}

TEST(AgentLost, WhatRanOnIsNotReplacedWhenTheBudgetIsUsedUp) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  options.spec.failure.restarts = 0;
  options.on_node_b = {"worker-1"};
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.lose_agent(seconds(1), "node-b");
  expect_succeeded(cast);
  EXPECT_EQ(cast.starts["worker-1"], 1);
  EXPECT_THAT(cast.within_reach(), IsEmpty());
}

TEST(AgentLost, WhileTheJobEndsItsProcessesAreStoppedWhenItIsBack) {
  auto options = two_workers();
  options.on_node_b = {"worker-1"};
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.freeze("worker-1");  // so it does not leave by itself
  cast.hang("worker-0");    // so the end takes a while
  cast.stop(false);
  const auto left_behind = cast.process("worker-1");
  cast.lose_agent(seconds(1), "node-b");
  ASSERT_TRUE(cast.run_until([&] { return !left_behind->alive; }, seconds(2)));
  ASSERT_TRUE(cast.run_to_end());
}

TEST(AgentLost, WithItsNodeAndAllThatRanThere) {
  auto options = two_workers();
  options.spec.train.steps = 60;
  options.on_node_b = {"worker-1", "loader-0"};
  Cast cast(options);
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill_agent(seconds(2), "node-b");
  expect_succeeded(cast);
  const auto incident = only_incident(cast, "agent@node-b");
  EXPECT_EQ(incident.incident().evidence(), "the agent of node node-b is gone");
  EXPECT_THAT(cast.rewinds, IsEmpty());
  EXPECT_EQ(cast.generations.back().members_size(), 2);
}

TEST(CoordinatorRestart, AnIncidentThatWasOpenIsToldToItsEnd) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5; }));
  cast.kill("worker-1");
  ASSERT_TRUE(cast.run_until([&] { return cast.count("worker_lost") == 1; }));
  cast.restart_coordinator(seconds(1));
  expect_succeeded(cast);
  std::map<std::string, std::string> told;
  for (const auto& event : cast.all("incident"))
    told[event.incident().culprit()] = event.incident().evidence();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_THAT(told["worker-1"], HasSubstr("killed by SIGKILL"));
  EXPECT_THAT(told["coordinator"], HasSubstr("killed by SIGKILL"));
}

TEST(AgentLost, ItsProcessesAreReplacedEvenIfTheyRanOn) {
  Cast cast(two_workers());
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 5 && cast.all_registered(); }));
  cast.lose_agent(seconds(3));
  ASSERT_TRUE(cast.run_until([&] { return cast.committed() == 7; }, minutes(1)))
      << "nobody waits for registrations that never come";
  expect_succeeded(cast);
  const auto agent = cast.all("incident").front().incident().culprit();
  EXPECT_THAT(agent, HasSubstr("agent@"));
  EXPECT_EQ(cast.lost, (std::map<std::string, int>{{agent, 1}})) << "one incident for all four";
  EXPECT_EQ(cast.count("incident"), 1U);
}

}  // namespace
}  // namespace crabcast::actors
