// S-2 in whole jobs: exactly the good samples are trained, each bad one is in quarantine once, and
// too many of them end the job.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "storage/job_store.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;
using storage::JobStore;

using Rows = std::set<std::uint64_t>;

class Quarantine : public ::testing::Test {
 protected:
  void SetUp() override { fs::copy(shared_corpus(), corpus_, fs::copy_options::recursive); }

  // Makes the video of a training row of ks unreadable.
  void break_video(std::uint64_t row) {
    const auto rows = nlohmann::json::parse(read_file(corpus_ / "ks" / "train.json"));
    const auto video = corpus_ / "ks" / "video" / rows[row]["video_path"].get<std::string>();
    ASSERT_TRUE(fs::exists(video)) << video;
    write_file(video, "this is no video");
  }
  Finished run(const SmallJob& job) {
    const auto file = folder_ / (job.name + ".yaml");
    write_file(file, job.yaml());
    return run_program("crabcast", {"--state", state_.string(), "run", file.string()}, 240s);
  }
  std::unique_ptr<JobStore> store(const std::string& job) {
    auto opened = JobStore::open_read_only(state_ / "jobs" / job / "store");
    if (!opened) throw std::runtime_error(opened.error().message);
    return std::move(*opened);
  }
  SmallJob actions(const std::string& name) const {
    SmallJob job{.name = name, .steps = 16};
    job.corpus = corpus_.string();
    job.tasks = "[action_recognition]";
    return job;
  }

  TemporaryFolder folder_;
  fs::path state_ = folder_ / "state", corpus_ = folder_ / "corpus";
};

TEST_F(Quarantine, ExactlyTheGoodSamplesAreTrained) {
  break_video(1);
  break_video(2);
  const auto done = run(actions("broken"));
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  const auto job = store("broken-1");
  std::map<std::uint32_t, Rows> trained;
  std::map<std::uint64_t, std::uint64_t> instead;  // of a bad row
  Rows recorded;
  ASSERT_TRUE(job->for_each_commit(Step{0},
                                   [&](const pb::CommitRecord& commit) {
                                     for (const auto& sample : commit.samples())
                                       trained[sample.dataset()].insert(sample.index());
                                     for (const auto& one : commit.substitutions()) {
                                       const auto [known, fresh] = instead.emplace(
                                           one.planned().index(), one.used().index());
                                       EXPECT_EQ(known->second, one.used().index())
                                           << "always the same one";
                                     }
                                     for (const auto& bad : commit.quarantined())
                                       EXPECT_TRUE(recorded.insert(bad.sample().index()).second)
                                           << "recorded twice";
                                     return true;
                                   })
                  .has_value());
  EXPECT_EQ(trained[0], (Rows{0, 3})) << "ks, without the broken ones";
  EXPECT_EQ(trained[1], (Rows{0, 1, 2, 3})) << "ucf";
  EXPECT_EQ(recorded, (Rows{1, 2}));
  EXPECT_EQ(instead[1], 3U) << "2 is broken, too";
  EXPECT_EQ(instead[2], 3U);

  const auto listed = run_program(
      "crabcast", {"--state", state_.string(), "quarantine", "broken-1", "--json"}, 20s);
  ASSERT_EQ(listed.code, 0) << listed.err;
  const auto samples = nlohmann::json::parse(listed.out)["samples"];
  ASSERT_EQ(samples.size(), 2U);
  for (const auto& sample : samples) {
    EXPECT_EQ(sample["dataset"], "ks");
    EXPECT_EQ(sample["stage"], "open");
    EXPECT_NE(sample["reason"].get<std::string>().find("ks/video"), std::string::npos);
  }
}

TEST_F(Quarantine, TooManyBadSamplesEndTheJob) {
  break_video(0);
  break_video(1);
  auto job = actions("too-many");
  job.bad_samples = 0.25;
  const auto done = run(job);
  EXPECT_NE(done.code, 0) << done.out;
  const auto text = done.out + done.err;
  EXPECT_NE(text.find("ks: 2 "), std::string::npos) << text;
  EXPECT_NE(text.find("failure.bad_samples"), std::string::npos) << text;
  EXPECT_NE(text.find("ks/video"), std::string::npos) << text;
}

// The shares follow the losses, and the ledger holds every change before the steps that it is for.
TEST_F(Quarantine, AnAdaptiveMixtureIsInTheLedger) {
  SmallJob job{.name = "adaptive", .steps = 36, .checkpoint_every = 1000};
  job.mixture = "{policy: adaptive, adapt_every: 16 steps}";
  const auto done = run(job);
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  std::map<std::uint64_t, std::uint64_t> first_steps;  // of the change that a commit holds
  ASSERT_TRUE(store("adaptive-1")
                  ->for_each_commit(Step{0},
                                    [&](const pb::CommitRecord& commit) {
                                      if (commit.has_mixture())
                                        first_steps[commit.step()] = commit.mixture().first_step();
                                      return true;
                                    })
                  .has_value());
  EXPECT_EQ(first_steps, (std::map<std::uint64_t, std::uint64_t>{{8, 17}, {24, 33}}));
}

}  // namespace
}  // namespace crabcast::testing
