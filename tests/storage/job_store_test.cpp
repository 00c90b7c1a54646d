#include "storage/job_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/registry.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class JobStoreTest : public testing::Test {
 protected:
  JobStoreTest() { reopen(); }
  void reopen() {
    store_.reset();
    store_ = must(JobStore::open(folder_ / "store"));
  }
  std::vector<std::uint64_t> steps_after(std::uint64_t step) {
    std::vector<std::uint64_t> steps;
    must(store_->for_each_commit(Step(step), [&steps](const pb::CommitRecord& record) {
      steps.push_back(record.step());
      return steps.size() < 4;
    }));
    return steps;
  }

  TempFolder folder_;
  std::unique_ptr<JobStore> store_;
};

TEST_F(JobStoreTest, LedgerIsInStepOrderAndSurvivesReopening) {
  EXPECT_FALSE(must(store_->last_commit()).has_value());
  for (std::uint64_t step = 1; step <= 300; ++step)
    must(store_->append_commit(commit_record(step), step % 50 == 0 ? Sync::yes : Sync::no));
  reopen();
  EXPECT_EQ(must(store_->last_commit())->SerializeAsString(),
            commit_record(300).SerializeAsString());
  EXPECT_THAT(steps_after(254), ElementsAre(255, 256, 257, 258));
  EXPECT_THAT(steps_after(298), ElementsAre(299, 300));
  expect_ledger(*store_, 300);
}

TEST_F(JobStoreTest, LedgerTakesOnlyTheNextStep) {
  EXPECT_EQ(store_->append_commit(commit_record(2), Sync::no).error().code, Errc::internal);
  must(store_->append_commit(commit_record(1), Sync::no));
  EXPECT_EQ(store_->append_commit(commit_record(1), Sync::no).error().code, Errc::internal);
  EXPECT_THAT(steps_after(0), ElementsAre(1));
}

TEST_F(JobStoreTest, QuarantineComesWithItsCommitAndOutlivesARewind) {
  EXPECT_TRUE(must(store_->quarantine()).empty());
  auto commit = commit_record(1);
  for (const std::uint64_t index : {700ULL, 5ULL}) {
    auto& bad = *commit.add_quarantined();
    bad.mutable_sample()->set_dataset(7);
    bad.mutable_sample()->set_index(index);
    bad.set_stage("decode");
    bad.set_step(1);
  }
  must(store_->append_commit(commit, Sync::yes));
  must(store_->rewind_ledger(Step(0)));
  reopen();
  const auto kept = must(store_->quarantine());
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].sample().index(), 5U) << "by data set and index";
  EXPECT_EQ(kept[1].SerializeAsString(), commit.quarantined(0).SerializeAsString());
}

TEST_F(JobStoreTest, RewindForgetsTheStepsAfterAndTakesThemAgain) {
  for (std::uint64_t step = 1; step <= 9; ++step)
    must(store_->append_commit(commit_record(step), Sync::no));
  must(store_->rewind_ledger(Step(6)));
  EXPECT_EQ(must(store_->last_commit())->step(), 6U);
  EXPECT_EQ(store_->rewind_ledger(Step(7)).error().code, Errc::invalid_argument);
  must(store_->append_commit(commit_record(7), Sync::yes));
  reopen();
  EXPECT_THAT(steps_after(4), ElementsAre(5, 6, 7));
  must(store_->rewind_ledger(Step(0)));
  EXPECT_FALSE(must(store_->last_commit()).has_value());
  must(store_->append_commit(commit_record(1), Sync::yes));
}

TEST_F(JobStoreTest, EventsAreNumberedFromOne) {
  for (const char* kind : {"job_started", "worker_lost", "checkpoint_stored"}) {
    pb::Event event;
    event.set_kind(kind);
    event.set_seq(77);
    must(store_->append_event(event, Sync::no));
  }
  reopen();
  pb::Event event;
  event.set_kind("job_ended");
  EXPECT_EQ(must(store_->append_event(event, Sync::yes)), 4U);
  const auto events = must(store_->events(1, 2));
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].seq(), 2U);
  EXPECT_EQ(events[0].kind(), "worker_lost");
  EXPECT_EQ(events[1].seq(), 3U);
  EXPECT_EQ(must(store_->events(0, 100)).size(), 4U);
  EXPECT_TRUE(must(store_->events(0, 0)).empty());
  EXPECT_TRUE(must(store_->events(4, 9)).empty());
}

TEST_F(JobStoreTest, ValuesAreReplacedByName) {
  EXPECT_FALSE(must(store_->value("job")).has_value());
  must(store_->put_value("job", "one", Sync::yes));
  must(store_->put_value("job", std::string("t\0wo", 4), Sync::yes));
  must(store_->put_value("spec", "", Sync::no));
  reopen();
  EXPECT_EQ(must(store_->value("job")), std::string("t\0wo", 4));
  EXPECT_EQ(must(store_->value("spec")), "");
}

TEST_F(JobStoreTest, AnEvaluationAddsItsScoresToTheManifest) {
  must(write_checkpoint(*store_, 50));
  pb::EvaluationRecord record;
  record.set_checkpoint(50);
  record.set_mean(0.5);
  auto* score = record.add_scores();
  score->set_task("captioning");
  score->set_score(0.25);
  must(store_->put_evaluation(record, Sync::yes));
  record.set_checkpoint(20);  // its checkpoint is gone
  must(store_->put_evaluation(record, Sync::yes));
  reopen();
  const pb::CheckpointManifest manifest = must(store_->manifest(CheckpointId(50)));
  EXPECT_EQ(manifest.metrics().at("eval/mean"), 0.5);
  EXPECT_EQ(manifest.metrics().at("eval/captioning"), 0.25);
  EXPECT_TRUE(must(store_->verify(CheckpointId(50))).ok());
  const auto evaluations = must(store_->evaluations());
  ASSERT_EQ(evaluations.size(), 2U);
  EXPECT_EQ(evaluations[0].checkpoint(), 20U);
  EXPECT_EQ(evaluations[1].scores(0).task(), "captioning");
}

TEST_F(JobStoreTest, OneProcessAtATime) {
  const auto second = JobStore::open(folder_ / "store");
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::already_exists);
  EXPECT_THAT(second.error().message, HasSubstr((folder_ / "store").string()));
}

TEST_F(JobStoreTest, NamesWhatElseIsInTheFolder) {
  const auto as_registry = Registry::open_read_only(folder_ / "store");
  ASSERT_FALSE(as_registry.has_value());
  must(Registry::open(folder_ / "registry"));
  const auto as_job = JobStore::open(folder_ / "registry");
  ASSERT_FALSE(as_job.has_value());
  EXPECT_EQ(as_job.error().code, Errc::unsupported);
  EXPECT_THAT(as_job.error().message, HasSubstr("crabcast registry 1"));
}

TEST_F(JobStoreTest, AFolderThatCannotBeMadeIsAnError) {
  EXPECT_FALSE(JobStore::open("/proc/crabcast/store").has_value());
  EXPECT_EQ(JobStore::open_read_only(folder_ / "nowhere").error().code, Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "nowhere"));
}

TEST_F(JobStoreTest, LeavesNoLitterOfLogFiles) {
  for (int i = 0; i < 6; ++i) reopen();
  std::size_t logs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "store"))
    logs += entry.path().filename().string().starts_with("LOG") ? 1 : 0;
  EXPECT_LE(logs, 2U);
}

}  // namespace
}  // namespace crabcast::storage
