// Jobs that go on: with another spec, on another machine, with a damaged checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Resumed : public ::testing::Test {
 protected:
  Finished crabcast(const std::string& state, std::vector<std::string> words) {
    words.insert(words.begin(), {"--state", (folder_ / state).string()});
    return run_program("crabcast", words, 300s);
  }
  fs::path spec_file(const SmallJob& job, const std::string& from = "",
                     const std::string& to = "") {
    std::string yaml = job.yaml();
    if (!from.empty()) yaml.replace(yaml.find(from), from.size(), to);
    const auto file = folder_ / "job.yaml";
    write_file(file, yaml);
    return file;
  }
  // Runs the job until it has some commits, and stops it with a checkpoint.
  void run_and_stop(const SmallJob& job) {
    Program first("crabcast",
                  {"--state", (folder_ / "state").string(), "run", spec_file(job).string()});
    ASSERT_TRUE(eventually(
        [&] {
          const auto status = job_status(folder_ / "state", job.name + "-1");
          return status.contains("step") && status["step"] >= 4;
        },
        120s))
        << first.out() << first.err();
    first.signal(SIGINT);
    ASSERT_EQ(first.wait(60s), 8) << first.out() << first.err();
  }

  TemporaryFolder folder_;
};

TEST_F(Resumed, OnlyWithASpecThatFits) {
  const SmallJob job{.name = "other", .steps = 16, .checkpoint_every = 1000};
  run_and_stop(job);
  const auto refused = crabcast("state", {"run", spec_file(job, "lanes: 4", "lanes: 8").string()});
  EXPECT_EQ(refused.code, 3) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("train.lanes: 4 in the checkpoint, 8 in the spec"));
  const auto longer = crabcast("state", {"run", spec_file(job, "steps: 16", "steps: 18").string()});
  EXPECT_EQ(longer.code, 0) << longer.err;
  EXPECT_THAT(longer.out, HasSubstr("other-1 goes on"));
  EXPECT_EQ(ledger(folder_ / "state", "other-1").size(), 18U);
}

TEST_F(Resumed, OnAnotherMachineWithTheSameBits) {  // T-2
  const SmallJob job{.name = "moved", .steps = 16, .checkpoint_every = 1000};
  run_and_stop(job);
  const auto out = (folder_ / "exported").string();
  ASSERT_EQ(crabcast("state", {"ckpt", "export", "moved-1", "--out", out}).code, 0);
  ASSERT_EQ(crabcast("there", {"ckpt", "import", out}).code, 0);
  const auto there = crabcast("there", {"run", out + "/spec.yaml"});
  EXPECT_EQ(there.code, 0) << there.err;
  EXPECT_THAT(there.out, HasSubstr("moved-1 goes on"));
  const auto here = crabcast("state", {"run", spec_file(job).string()});
  EXPECT_EQ(here.code, 0) << here.err;
  EXPECT_EQ(newest_state(folder_ / "there", "moved-1"), newest_state(folder_ / "state", "moved-1"));
  EXPECT_EQ(ledger(folder_ / "there", "moved-1").size(), 16U);
}

}  // namespace
}  // namespace crabcast::testing
