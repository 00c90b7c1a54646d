// A controller and two agents as daemons: two jobs at once, a third waits with its reason.
#include "tests/process/cluster.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace crabcast::testing {
namespace {

TEST_F(Cluster, TwoJobsRunAndAThirdWaitsWithItsReason) {
  start_controller();
  start_agent("node-a", "127.0.0.1");
  start_agent("node-b", "127.0.0.2");
  ASSERT_TRUE(eventually(
      [&] {
        const auto nodes = ask({"nodes", "--json"});
        const auto list = nlohmann::json::parse(nodes.out, nullptr, false);
        return list.is_object() && list["nodes"].size() == 2;
      },
      20s));
  // Each takes 2.1 of a node's 2.3 CPUs: coordinator 0.1, loader 0.5, evaluator 0.5, worker 1.
  SmallJob job{.steps = 40, .workers_min = 1, .workers_max = 1};
  job.name = "first";
  const auto first = submit(job);
  job.name = "second";
  const auto second = submit(job);
  job.name = "third";
  job.steps = 4;
  const auto third = submit(job);
  ASSERT_TRUE(eventually(
      [&] { return state_of(first) == "running" && state_of(second) == "running"; }, 60s))
      << ask({"ps"}).out;
  const auto waiting = job_status(state_, third);
  EXPECT_EQ(waiting.value("state", ""), "pending");
  EXPECT_NE(waiting.value("reason", "").find("CPU"), std::string::npos)
      << waiting.value("reason", "");
  for (const auto& id : {first, second, third})
    EXPECT_TRUE(eventually([&] { return state_of(id) == "succeeded"; }, 240s))
        << id << " " << ask({"ps", "--all"}).out << ask({"logs", id}).out;
  const auto events = ask({"events", third});
  EXPECT_NE(events.out.find("job_succeeded"), std::string::npos) << events.out;
  const auto log = ask({"logs", first, "worker-0"});
  EXPECT_EQ(log.code, 0) << log.err;
  EXPECT_FALSE(log.out.empty());
}

TEST_F(Cluster, CancelledJobEndsAndItsProcessesGo) {
  start_controller();
  start_agent("node-a", "127.0.0.1");
  const auto job = submit({.name = "long", .steps = 5000, .workers_max = 1});
  ASSERT_TRUE(eventually([&] { return job_status(state_, job).value("step", 0) >= 2; }, 90s))
      << ask({"ps"}).out;
  EXPECT_EQ(ask({"cancel", job}).code, 0);
  EXPECT_TRUE(eventually([&] { return state_of(job) == "cancelled"; }, 30s)) << state_of(job);
  const auto launch = (folder_ / "node-a" / "jobs" / job / "launch").string();
  EXPECT_TRUE(eventually([&] { return processes_with(launch).empty(); }, 30s));
}

TEST_F(Cluster, ControllerKilledJobGoesOnAndIsFoundAgain) {
  daemons_.push_back(std::make_unique<Program>(
      "crabcast", std::vector<std::string>{"--state", state_.string(), "controller", "--bind",
                                           "127.0.0.1:17394"}));
  ASSERT_TRUE(
      eventually([&] { return std::filesystem::exists(state_ / "controller" / "endpoint"); }, 20s));
  start_agent("node-a", "127.0.0.1");
  const auto job = submit({.name = "steady", .steps = 60, .workers_max = 1});
  ASSERT_TRUE(eventually([&] { return job_status(state_, job).value("step", 0) >= 2; }, 90s));
  daemons_[0]->signal(SIGKILL);
  ASSERT_TRUE(daemons_[0]->wait(5s).has_value());
  daemons_[0] = std::make_unique<Program>(
      "crabcast", std::vector<std::string>{"--state", state_.string(), "controller", "--bind",
                                           "127.0.0.1:17394"});
  EXPECT_TRUE(eventually([&] { return state_of(job) == "succeeded"; }, 240s))
      << ask({"ps", "--all"}).out << daemons_[0]->err();
  EXPECT_EQ(job_status(state_, job).value("incidents", 1), 0);
}

}  // namespace
}  // namespace crabcast::testing
