// A job survives the loss of the node that has its store, and two coordinators of one job never
// both commit.
#include <gtest/gtest.h>
#include <signal.h>

#include <map>

#include "storage/fence.h"
#include "tests/process/cluster.h"
#include "tests/process/job_records.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

class Replicas : public Cluster {
 protected:
  // A job of one worker, whose gang fits one node.
  static SmallJob job(const std::string& name, int steps = 30) {
    return {
        .name = name, .steps = steps, .workers_min = 1, .workers_max = 1, .checkpoint_every = 3};
  }
  // What an undisturbed run ends with.
  std::string calm_state() {
    write_file(folder_ / "calm.yaml", job("calm").yaml());
    const auto calm = (folder_ / "calm").string();
    const auto done =
        run_program("crabcast", {"--state", calm, "run", (folder_ / "calm.yaml").string()}, 200s);
    EXPECT_EQ(done.code, 0) << done.out << done.err;
    return newest_state(calm, "calm-1");
  }
  std::string everything(const std::string& job) {
    return ask({"ps", "--all"}).out + ask({"events", job}).out + ask({"logs", job}).out;
  }
};

TEST_F(Replicas, AJobGoesOnFromACopyWhenItsNodeIsGoneAndNothingIsCommittedTwice) {
  const auto calm = calm_state();
  start_controller();
  std::map<std::string, std::string> addresses{{"node-a", "127.0.0.1"}, {"node-b", "127.0.0.2"}};
  std::map<std::string, Program*> agents;
  for (const auto& [node, address] : addresses) agents[node] = &start_agent(node, address);
  const auto id = submit(job("moves"));
  const auto own = [&](const std::string& node) { return folder_ / node / "jobs" / id / "store"; };
  ASSERT_TRUE(eventually(
      [&] { return job_status(state_, id).value("replicated_checkpoint", 0) >= 6; }, 120s))
      << everything(id);

  // The node is lost, with all that was on it.
  const std::string lost = fs::exists(own("node-a")) ? "node-a" : "node-b";
  const std::string other = lost == "node-a" ? "node-b" : "node-a";
  agents[lost]->signal(SIGKILL);
  ASSERT_TRUE(agents[lost]->wait(5s).has_value());
  EXPECT_TRUE(eventually([&] { return processes_with((folder_ / lost).string()).empty(); }, 10s));
  fs::rename(folder_ / lost, folder_ / "gone");
  ASSERT_TRUE(eventually(
      [&] {
        return ask({"events", id}).out.find("restored") != std::string::npos;
      },
      60s))
      << everything(id);
  EXPECT_TRUE(fs::exists(own(other)));

  // It comes back, with the store that it had.
  fs::rename(folder_ / "gone", folder_ / lost);
  start_agent(lost, addresses[lost]);
  EXPECT_TRUE(eventually([&] { return fs::exists(own(lost).string() + ".superseded-1"); }, 60s))
      << everything(id);
  EXPECT_FALSE(fs::exists(own(lost)));
  ASSERT_TRUE(eventually([&] { return state_of(id) == "succeeded"; }, 200s)) << everything(id);

  EXPECT_EQ(newest_state(folder_ / other, id), calm);
  const auto commits = ledger(folder_ / other, id);
  ASSERT_EQ(commits.size(), 30U);
  std::uint64_t restored = 0;
  for (std::uint64_t i = 0; i < commits.size(); ++i) {
    EXPECT_EQ(commits[i].step(), i + 1);
    if (commits[i].fence() == 1) restored = i + 1;
    EXPECT_EQ(commits[i].fence(), restored == i + 1 ? 1U : 2U) << "step " << i + 1;
  }
  EXPECT_GE(restored, 6U);
  EXPECT_EQ(restored % 3, 0U) << "it went on behind a checkpoint";
  // The node that was lost keeps the copy now.
  auto copy = storage::JobStore::open_read_only(folder_ / lost / "replicas" / id / "store");
  ASSERT_TRUE(copy.has_value()) << copy.error().message;
  EXPECT_EQ((*copy)->last_commit().value()->step(), 30U);
  EXPECT_TRUE((*copy)->verify(CheckpointId{30}).value().ok());
}

TEST_F(Replicas, ASecondCoordinatorOfAJobIsRefusedAndTheFirstGoesOn) {
  write_file(folder_ / "two.yaml", job("two", 12).yaml());
  Program run("crabcast", {"--state", state_.string(), "run", (folder_ / "two.yaml").string()});
  ASSERT_TRUE(eventually([&] { return job_status(state_, "two-1").value("step", 0) >= 3; }, 120s))
      << run.out() << run.err();
  const auto launch = read_file(state_ / "jobs" / "two-1" / "launch" / "coordinator");
  const std::string fence = "\nfence: 1\n";
  ASSERT_NE(launch.find(fence), std::string::npos) << launch;
  const auto another = [&](const std::string& number) {
    auto text = launch;
    text.replace(text.find(fence), fence.size(), "\nfence: " + number + "\n");
    write_file(folder_ / "another", text);
    return run_program("crabcast", {"role", (folder_ / "another").string()}, 30s);
  };
  const auto second = another("2");
  EXPECT_NE(second.code, 0);
  EXPECT_NE((second.out + second.err).find("another process has it open"), std::string::npos)
      << second.out << second.err;
  EXPECT_EQ(run.wait(200s), 0) << run.out() << run.err();
  const auto commits = ledger(state_, "two-1");
  EXPECT_EQ(commits.size(), 12U);
  for (const auto& commit : commits) EXPECT_EQ(commit.fence(), 1U);

  // Nobody has it open now, but a later one was there.
  {
    auto store = storage::JobStore::open(state_ / "jobs" / "two-1" / "store");
    ASSERT_TRUE(store.has_value());
    ASSERT_TRUE(storage::take_fence(**store, 3));
  }
  const auto late = another("2");
  EXPECT_EQ(late.code, 1);
  EXPECT_NE((late.out + late.err).find("fence 3"), std::string::npos) << late.out << late.err;
  EXPECT_EQ(ledger(state_, "two-1").size(), 12U);
}

}  // namespace
}  // namespace crabcast::testing
