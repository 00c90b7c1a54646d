// Caches of a node and packs of a lane: less work or less memory, the same training.
#include <gtest/gtest.h>

#include "protocol/sums.h"
#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

class Caches : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path state_ = folder_ / "state";

  void run(const SmallJob& job) {
    const auto file = folder_ / (job.name + ".yaml");
    write_file(file, job.yaml());
    const auto done =
        run_program("crabcast", {"--state", state_.string(), "run", file.string()}, 240s);
    ASSERT_EQ(done.code, 0) << done.out << done.err;
  }
  pb::LoaderWork work_of(const std::string& job) {
    pb::LoaderWork work;
    for (const auto& commit : ledger(state_, job)) add_to(work, commit.work());
    return work;
  }
};

SmallJob frozen_towers(const std::string& name) {
  return {.name = name,
          .steps = 8,
          .adapter = "{kind: ilora, rank: 4, alpha: 8, heads: 2, scope: language_model}",
          .cache = "{samples: 64MiB, features: 64MiB}"};
}

TEST_F(Caches, AWarmCacheChangesNoBit) {  // T-2
  ASSERT_NO_FATAL_FAILURE(run(frozen_towers("cold")));
  ASSERT_NO_FATAL_FAILURE(run(frozen_towers("warm")));
  EXPECT_EQ(newest_state(state_, "cold-1"), newest_state(state_, "warm-2"));

  const auto cold = work_of("cold-1"), warm = work_of("warm-2");
  EXPECT_EQ(cold.samples(), 32U);
  EXPECT_EQ(warm.samples(), 32U);
  EXPECT_LT(cold.cached(), 16U) << "what is not there cannot be found";
  EXPECT_EQ(warm.cached(), 32U) << "every sample was decoded by the run before";
  EXPECT_EQ(warm.demux() + warm.decode() + warm.audio(), 0);
}

TEST_F(Caches, AreLeftOutWhereTheSpecSaysSo) {
  SmallJob job{.name = "without", .steps = 4, .cache = "{samples: 0B}"};
  ASSERT_NO_FATAL_FAILURE(run(job));
  EXPECT_FALSE(std::filesystem::exists(state_ / "cache"));
  EXPECT_EQ(work_of("without-1").cached(), 0U);
}

TEST_F(Caches, ACacheThatCannotBeOpenedCostsTimeOnly) {
  write_file(state_ / "cache", "in the way");
  ASSERT_NO_FATAL_FAILURE(run({.name = "blocked", .steps = 4}));
  EXPECT_EQ(ledger(state_, "blocked-1").size(), 4U);
}

TEST_F(Caches, PacksDoNotDependOnTheNumberOfWorkers) {  // T-2
  ASSERT_NO_FATAL_FAILURE(run({.name = "one",
                               .steps = 6,
                               .workers_min = 1,
                               .workers_max = 1,
                               .pack_tokens = 600,
                               .samples_per_lane = 3}));
  ASSERT_NO_FATAL_FAILURE(run({.name = "two",
                               .steps = 6,
                               .workers_min = 2,
                               .workers_max = 2,
                               .pack_tokens = 600,
                               .samples_per_lane = 3}));
  EXPECT_EQ(newest_state(state_, "one-1"), newest_state(state_, "two-2"));
  const auto work = work_of("one-1");
  EXPECT_GT(work.cells(), work.tokens()) << "samples of a lane differ in length";
}

}  // namespace
}  // namespace crabcast::testing
