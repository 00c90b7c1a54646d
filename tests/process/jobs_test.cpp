// Whole jobs in real processes: they finish, they are exact, they survive kill -9.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <map>
#include <set>

#include "protocol/job_spec.h"
#include "storage/job_store.h"
#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

using storage::JobStore;

void expect_whole_ledger(const std::vector<pb::CommitRecord>& commits, std::uint64_t steps) {
  ASSERT_EQ(commits.size(), steps);
  for (std::uint64_t i = 0; i < steps; ++i) EXPECT_EQ(commits[i].step(), i + 1);
}

std::vector<pb::Event> incidents(const std::filesystem::path& state, const std::string& job) {
  auto store = JobStore::open_read_only(state / "jobs" / job / "store");
  if (!store) throw std::runtime_error(store.error().message);
  const auto events = (*store)->events(0, 10000).value();
  std::vector<pb::Event> found;
  for (const auto& event : events)
    if (event.kind() == "incident") found.push_back(event);
  return found;
}

class Jobs : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path state_ = folder_ / "state";

  std::filesystem::path spec(const SmallJob& job) {
    const auto file = folder_ / (job.name + ".yaml");
    write_file(file, job.yaml());
    return file;
  }
  std::vector<std::string> run_arguments(const std::filesystem::path& spec_file) {
    return {"--state", state_.string(), "run", spec_file.string()};
  }
};

TEST_F(Jobs, FinishesWithEqualSharesOfTheTasks) {
  const auto file = spec({.name = "whole", .steps = 14});
  const auto done = run_program("crabcast", run_arguments(file), 240s);
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_NE(done.out.find("whole-1 finished"), std::string::npos) << done.out;
  const auto commits = ledger(state_, "whole-1");
  expect_whole_ledger(commits, 14);
  std::map<std::string, int> total;
  for (const auto& commit : commits) {
    std::map<std::string, int> batch;
    for (const auto& loss : commit.losses()) batch[loss.task()] = static_cast<int>(loss.samples());
    int least = 100, most = 0;
    for (const auto& name : every_task()) {
      const int count = batch[name];
      least = std::min(least, count);
      most = std::max(most, count);
      total[name] += count;
    }
    EXPECT_LE(most - least, 1) << "step " << commit.step();
  }
  std::set<int> counts;
  for (const auto& [task, count] : total) counts.insert(count);
  EXPECT_EQ(counts, (std::set<int>{8})) << "14 steps of 4 samples over 7 tasks";

  const auto verified =
      run_program("crabcast", {"--state", state_.string(), "ckpt", "verify", "whole-1"});
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  auto store = JobStore::open_read_only(state_ / "jobs" / "whole-1" / "store");
  ASSERT_TRUE(store.has_value());
  const auto evaluations = (*store)->evaluations().value();
  ASSERT_FALSE(evaluations.empty());
  EXPECT_EQ(evaluations.back().checkpoint(), 14U);
  EXPECT_EQ(evaluations.back().scores_size(), 7);
  for (const auto& score : evaluations.back().scores())
    for (const char* compared : {"untrained", "constant"})
      EXPECT_TRUE(score.details().contains(compared)) << score.task();
}

TEST_F(Jobs, OneAndTwoWorkersEndBitwiseEqual) {  // T-2
  const auto one = spec({.name = "one", .steps = 8, .workers_min = 1, .workers_max = 1});
  const auto two = spec({.name = "two", .steps = 8, .workers_min = 2, .workers_max = 2});
  const auto a = run_program("crabcast", run_arguments(one), 240s);
  ASSERT_EQ(a.code, 0) << a.out << a.err;
  const auto b = run_program("crabcast", run_arguments(two), 240s);
  ASSERT_EQ(b.code, 0) << b.out << b.err;
  EXPECT_EQ(ledger(state_, "one-1").back().members(), 1U);
  EXPECT_EQ(ledger(state_, "two-2").back().members(), 2U);
  EXPECT_EQ(newest_state(state_, "one-1"), newest_state(state_, "two-2"));
}

// kill -9 of one member while the job trains: it finishes, with one incident for that member, and
// with the very state of an undisturbed run.
class Killed : public Jobs, public ::testing::WithParamInterface<std::string> {
 protected:
  // The undisturbed run's final state, made once.
  static const std::string& calm_state() {
    static const std::string state = [] {
      TemporaryFolder folder;
      write_file(folder / "calm.yaml", SmallJob{.name = "calm", .steps = 24}.yaml());
      const auto done = run_program(
          "crabcast",
          {"--state", (folder / "state").string(), "run", (folder / "calm.yaml").string()}, 300s);
      if (done.code != 0) throw std::runtime_error(done.out + done.err);
      return newest_state(folder / "state", "calm-1");
    }();
    return state;
  }
};

TEST_P(Killed, JobGoesOn) {
  const std::string role = GetParam();
  const std::string calm = calm_state();
  const auto rough = spec({.name = "rough", .steps = 24, .workers_min = 1, .workers_max = 2});
  Program run("crabcast", run_arguments(rough));
  const auto committed = [&](std::uint64_t step) {
    const auto status = job_status(state_, "rough-1");
    return status.contains("step") && status["step"].get<std::uint64_t>() >= step;
  };
  ASSERT_TRUE(eventually([&] { return committed(5); }, 120s)) << run.out() << run.err();
  const auto pid = pid_of(state_, "rough-1", role);
  ASSERT_GT(pid, 0) << run.out();
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  const auto code = run.wait(300s);
  ASSERT_TRUE(code.has_value()) << run.out() << run.err();
  EXPECT_EQ(*code, 0) << run.out() << run.err();
  expect_whole_ledger(ledger(state_, "rough-1"), 24);
  EXPECT_EQ(calm, newest_state(state_, "rough-1"));
  if (role == "coordinator") return;  // its death is in the agent's hands, not in its own ledger
  const auto found = incidents(state_, "rough-1");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].incident().culprit(), role);
  EXPECT_NE(found[0].incident().evidence().find("SIGKILL"), std::string::npos)
      << found[0].incident().evidence();
}
INSTANTIATE_TEST_SUITE_P(Roles, Killed,
                         ::testing::Values("worker-0", "worker-1", "loader-0", "evaluator-0",
                                           "coordinator"),
                         [](const auto& info) {
                           auto name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_F(Jobs, KilledRunLeavesNothingAndGoesOn) {
  const auto file = spec({.name = "again", .steps = 30, .checkpoint_every = 5});
  Program first("crabcast", run_arguments(file));
  ASSERT_TRUE(eventually(
      [&] {
        const auto status = job_status(state_, "again-1");
        return status.contains("newest_checkpoint") && status["newest_checkpoint"] >= 5;
      },
      120s))
      << first.out() << first.err();
  first.signal(SIGKILL);
  ASSERT_TRUE(first.wait(5s).has_value());
  EXPECT_TRUE(eventually([&] { return processes_with(state_.string()).empty(); }, 10s))
      << "processes were left behind";
  const auto second = run_program("crabcast", run_arguments(file), 240s);
  ASSERT_EQ(second.code, 0) << second.out << second.err;
  EXPECT_NE(second.out.find("again-1 goes on"), std::string::npos) << second.out;
  const auto commits = ledger(state_, "again-1");
  expect_whole_ledger(commits, 30);
  EXPECT_LE(commits.front().unix_ms(), commits.back().unix_ms());
}

TEST_F(Jobs, InterruptCheckpointsAndTheSameCommandGoesOn) {
  const auto file = spec({.name = "pause", .steps = 30, .checkpoint_every = 1000});
  Program first("crabcast", run_arguments(file));
  ASSERT_TRUE(eventually(
      [&] {
        const auto status = job_status(state_, "pause-1");
        return status.contains("step") && status["step"] >= 4;
      },
      120s))
      << first.out() << first.err();
  first.signal(SIGINT);
  ASSERT_EQ(first.wait(60s), 8) << first.out() << first.err();  // Exit::stopped
  const auto stopped_at = ledger(state_, "pause-1").size();
  ASSERT_GE(stopped_at, 4U);
  ASSERT_LT(stopped_at, 30U);
  const auto second = run_program("crabcast", run_arguments(file), 240s);
  ASSERT_EQ(second.code, 0) << second.out << second.err;
  const auto commits = ledger(state_, "pause-1");
  expect_whole_ledger(commits, 30);
  // Nothing was done twice: the first run's commits are still the ones of the ledger.
  EXPECT_LT(commits[stopped_at - 1].generation(), commits[stopped_at].generation());
}

}  // namespace
}  // namespace crabcast::testing
