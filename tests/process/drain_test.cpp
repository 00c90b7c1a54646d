// Jobs whose workers come and go in good order, in real processes: drained by SIGTERM, scaled up
// and down while they train. No incident, no step done twice, and the very state of an undisturbed
// run.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

constexpr int kSteps = 60;

class GoodOrder : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path state_ = folder_ / "state";

  std::unique_ptr<Program> start(const SmallJob& job) {
    const auto file = folder_ / (job.name + ".yaml");
    write_file(file, job.yaml());
    return std::make_unique<Program>(
        "crabcast", std::vector<std::string>{"--state", state_.string(), "run", file.string()});
  }
  std::uint64_t step(const std::string& job) {
    return job_status(state_, job).value("step", std::uint64_t{0});
  }
  Finished ask(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--state", state_.string()});
    return run_program("crabcast", arguments, 30s);
  }
  std::string calm_state() {
    auto run = start({.name = "calm", .steps = kSteps, .workers_min = 1, .workers_max = 1});
    const auto code = run->wait(300s);
    EXPECT_EQ(code, 0) << run->out() << run->err();
    return newest_state(state_, "calm-1");
  }
};

TEST_F(GoodOrder, WorkersDrainAndTheJobIsScaledDownAndUp) {
  const std::string calm = calm_state();
  auto run = start({.name = "rough", .steps = kSteps, .workers_min = 1, .workers_max = 2});
  const std::string job = "rough-2";
  ASSERT_TRUE(eventually([&] { return step(job) >= 5; }, 120s)) << run->out() << run->err();
  const auto pid = pid_of(state_, job, "worker-0");
  ASSERT_GT(pid, 0);
  ASSERT_EQ(::kill(pid, SIGTERM), 0);
  ASSERT_TRUE(eventually(
      [&] {
        const auto next = pid_of(state_, job, "worker-0");
        return next > 0 && next != pid;
      },
      60s))
      << ask({"events", job}).out;
  const auto down = ask({"scale", job, "--workers", "1"});
  EXPECT_EQ(down.code, 0) << down.err;
  ASSERT_TRUE(eventually([&] { return pid_of(state_, job, "worker-1") <= 0; }, 60s))
      << ask({"ps", job}).out << ask({"events", job}).out;
  const auto up = ask({"scale", job, "--workers", "2"});
  EXPECT_EQ(up.code, 0) << up.err;
  EXPECT_TRUE(eventually([&] { return pid_of(state_, job, "worker-1") > 0; }, 60s))
      << ask({"ps", job}).out << ask({"events", job}).out;
  const auto refused = ask({"scale", job, "--workers", "99"});
  EXPECT_EQ(refused.code, 3) << refused.out;
  EXPECT_NE(refused.err.find("train.lanes"), std::string::npos) << refused.err;
  const auto code = run->wait(300s);
  ASSERT_TRUE(code.has_value()) << run->out() << run->err();
  EXPECT_EQ(*code, 0) << run->out() << run->err();
  EXPECT_EQ(calm, newest_state(state_, job));  // T-2
  const auto incidents = ask({"incidents", job, "--json"});
  EXPECT_EQ(incidents.code, 0) << incidents.err;
  EXPECT_EQ(incidents.out.find("\"incident\":{"), std::string::npos) << incidents.out;
  std::uint64_t expected = 1;
  for (const auto& commit : ledger(state_, job)) EXPECT_EQ(commit.step(), expected++);
  EXPECT_EQ(expected, kSteps + 1U);
}

}  // namespace
}  // namespace crabcast::testing
