// A job survives the loss of the node that has its store, and two coordinators of one job never
// both commit.
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <stdexcept>

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
  // What an undisturbed run ends with; made once.
  static const std::string& calm_state() {
    static const std::string state = [] {
      TemporaryFolder folder;
      write_file(folder / "calm.yaml", job("calm").yaml());
      const auto done = run_program(
          "crabcast",
          {"--state", (folder / "state").string(), "run", (folder / "calm.yaml").string()}, 200s);
      if (done.code != 0) throw std::runtime_error(done.out + done.err);
      return newest_state(folder / "state", "calm-1");
    }();
    return state;
  }
  std::string everything(const std::string& job) {
    return ask({"ps", "--all"}).out + ask({"events", job}).out + ask({"logs", job}).out;
  }
};

// Two nodes, and a job whose coordinator is on one of them.
class TwoNodes : public Replicas {
 protected:
  void start(const std::string& name) {
    (void)calm_state();
    start_controller();
    for (const auto& [node, address] : addresses_) agents_[node] = &start_agent(node, address);
    id_ = submit(job(name));
    ASSERT_TRUE(eventually(
        [&] { return job_status(state_, id_).value("replicated_checkpoint", 0) >= 3; }, 120s))
        << everything(id_);
    lost_ = fs::exists(own("node-a")) ? "node-a" : "node-b";
    other_ = lost_ == "node-a" ? "node-b" : "node-a";
  }
  fs::path own(const std::string& node) { return folder_ / node / "jobs" / id_ / "store"; }
  bool restored() {
    return eventually(
        [&] {
          return ask({"events", id_}).out.find("restored") != std::string::npos;
        },
        60s);
  }
  // The former store of the node that was lost is none of the job's any more.
  bool set_aside() {
    return eventually([&] { return fs::exists(own(lost_).string() + ".superseded-1"); }, 60s) &&
           !fs::exists(own(lost_));
  }
  // The job ended as if nothing had happened: each step is committed once, first by the first
  // coordinator and from a checkpoint on by the second.
  void expect_whole() {
    ASSERT_TRUE(eventually([&] { return state_of(id_) == "succeeded"; }, 200s)) << everything(id_);
    EXPECT_EQ(newest_state(folder_ / other_, id_), calm_state());
    const auto commits = ledger(folder_ / other_, id_);
    ASSERT_EQ(commits.size(), 30U);
    std::uint64_t restored = 0;
    for (std::uint64_t step = 1; step <= commits.size(); ++step) {
      EXPECT_EQ(commits[step - 1].step(), step);
      if (commits[step - 1].fence() == 1) restored = step;
      EXPECT_EQ(commits[step - 1].fence(), restored == step ? 1U : 2U) << "step " << step;
    }
    EXPECT_GE(restored, 3U);
    EXPECT_EQ(restored % 3, 0U) << "it went on behind a checkpoint";
  }

  std::map<std::string, std::string> addresses_{{"node-a", "127.0.0.1"}, {"node-b", "127.0.0.2"}};
  std::map<std::string, Program*> agents_;
  std::string id_, lost_, other_;
};

TEST_F(TwoNodes, AJobGoesOnFromACopyWhenItsNodeIsGone) {
  start("moves");
  agents_[lost_]->signal(SIGKILL);
  ASSERT_TRUE(agents_[lost_]->wait(5s).has_value());
  EXPECT_TRUE(eventually([&] { return processes_with((folder_ / lost_).string()).empty(); }, 10s));
  fs::rename(folder_ / lost_, folder_ / "gone");  // with all that was on it
  ASSERT_TRUE(restored()) << everything(id_);
  EXPECT_TRUE(fs::exists(own(other_)));

  // It comes back, with the store that it had.
  fs::rename(folder_ / "gone", folder_ / lost_);
  start_agent(lost_, addresses_[lost_]);
  EXPECT_TRUE(set_aside()) << everything(id_);
  expect_whole();
  // It keeps the copy now.
  auto copy = storage::JobStore::open_read_only(folder_ / lost_ / "replicas" / id_ / "store");
  ASSERT_TRUE(copy.has_value()) << copy.error().message;
  EXPECT_EQ((*copy)->last_commit().value()->step(), 30U);
  EXPECT_TRUE((*copy)->verify(CheckpointId{30}).value().ok());
}

// Its processes live on, and think that the job is theirs.
TEST_F(TwoNodes, ACoordinatorWhoseNodeWasGivenUpEndsItself) {
  start("displaced");
  const auto first = pid_of(folder_ / lost_, id_, "coordinator");
  ASSERT_GT(first, 0);
  agents_[lost_]->signal(SIGSTOP);
  ASSERT_TRUE(restored()) << everything(id_);
  const auto log = [&] {
    return read_file(folder_ / lost_ / "jobs" / id_ / "logs" / "coordinator.log");
  };
  EXPECT_TRUE(eventually([&] { return log().find("displaced") != std::string::npos; }, 20s))
      << log();
  agents_[lost_]->signal(SIGCONT);
  EXPECT_TRUE(set_aside()) << everything(id_);
  const auto launches = (folder_ / lost_ / "jobs" / id_ / "launch").string();
  EXPECT_TRUE(eventually([&] { return processes_with(launches).empty(); }, 20s))
      << "its members went with it";
  expect_whole();
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
