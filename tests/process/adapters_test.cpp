// Jobs with each kind of adapter: they train, are killed and go on to the very same state; and what
// they trained is exported, imported, and trained on.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

class EveryKindOfAdapter : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<std::string> arguments(const std::filesystem::path& state, const SmallJob& job) {
    const auto file = folder_ / (job.name + ".yaml");
    write_file(file, job.yaml());
    return {"--state", state.string(), "run", file.string()};
  }
  SmallJob job() const {
    return {.name = "kind",
            .steps = 8,
            .checkpoint_every = 2,
            .tasks = "[captioning]",
            .adapter = "{kind: " + GetParam() + "}"};
  }
  TemporaryFolder folder_;
};

TEST_P(EveryKindOfAdapter, TrainsIsKilledAndGoesOn) {
  const auto calm = folder_ / "calm", rough = folder_ / "rough";
  const auto done = run_program("crabcast", arguments(calm, job()), 300s);
  ASSERT_EQ(done.code, 0) << done.out << done.err;

  Program first("crabcast", arguments(rough, job()));
  ASSERT_TRUE(eventually(
      [&] {
        const auto status = job_status(rough, "kind-1");
        return status.contains("newest_checkpoint") && status["newest_checkpoint"] >= 2;
      },
      180s))
      << first.out() << first.err();
  first.signal(SIGKILL);
  ASSERT_TRUE(first.wait(10s).has_value());
  const auto second = run_program("crabcast", arguments(rough, job()), 300s);
  ASSERT_EQ(second.code, 0) << second.out << second.err;
  EXPECT_NE(second.out.find("kind-1 goes on"), std::string::npos) << second.out;
  EXPECT_EQ(newest_checkpoint(rough, "kind-1").step(), 8U);
  EXPECT_EQ(newest_state(rough, "kind-1"), newest_state(calm, "kind-1"));

  // Out of the checkpoint, through a file, and into another job, which begins where this one ended.
  const std::string exported = (folder_ / "exported.safetensors").string();
  const auto out = run_program("crabcast", {"--state", calm.string(), "adapter", "export", "--job",
                                            "kind-1", "--format", "crab", "--out", exported});
  ASSERT_EQ(out.code, 0) << out.out << out.err;
  const std::string imported = (folder_ / "imported.safetensors").string();
  const auto in = run_program("crabcast", {"--state", calm.string(), "adapter", "import", exported,
                                           "--base", "nano", "--out", imported});
  ASSERT_EQ(in.code, 0) << in.out << in.err;

  SmallJob next = job();
  next.name = "next";
  next.steps = 1;  // of a warm-up: the rate is 0, so the adapter is what it began with
  next.checkpoint_every = 1;
  next.adapter = "{kind: " + GetParam() + ", init: " + imported + "}";
  const auto went_on = run_program("crabcast", arguments(calm, next), 300s);
  ASSERT_EQ(went_on.code, 0) << went_on.out << went_on.err;
  const std::string again = (folder_ / "again.safetensors").string();
  const auto back = run_program("crabcast", {"--state", calm.string(), "adapter", "export", "--job",
                                             "next-2", "--format", "crab", "--out", again});
  ASSERT_EQ(back.code, 0) << back.out << back.err;
  EXPECT_EQ(read_file(again), read_file(exported));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKindOfAdapter,
                         ::testing::Values("ilora", "lora", "crab_v1", "full"),
                         [](const auto& info) { return info.param; });

TEST(InitialAdapter, OfAnotherRankEndsTheJobAtOnceAndSaysWhy) {
  const TemporaryFolder folder;
  const auto state = folder / "state";
  const auto run = [&](const SmallJob& job) {
    write_file(folder / (job.name + ".yaml"), job.yaml());
    return run_program("crabcast",
                       {"--state", state.string(), "run", (folder / (job.name + ".yaml")).string()},
                       300s);
  };
  SmallJob job{.name = "one", .steps = 1, .checkpoint_every = 1, .tasks = "[captioning]"};
  ASSERT_EQ(run(job).code, 0);
  const std::string file = (folder / "adapter.safetensors").string();
  ASSERT_EQ(run_program("crabcast", {"--state", state.string(), "adapter", "export", "--job",
                                     "one-1", "--format", "crab", "--out", file})
                .code,
            0);
  job.name = "two";
  job.adapter = "{kind: ilora, rank: 5, alpha: 8, heads: 2, init: " + file + "}";
  const auto refused = run(job);
  EXPECT_NE(refused.code, 0);
  EXPECT_NE((refused.out + refused.err).find("its rank is 4, not 5"), std::string::npos)
      << refused.out << refused.err;
}

}  // namespace
}  // namespace crabcast::testing
