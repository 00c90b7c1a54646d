// Retention: the policies one by one, and all together over random histories (C-2).
#include "storage/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::uint64_t> kept_ids(const Reasons& kept) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, reasons] : kept) ids.push_back(id.value());
  return ids;
}

// Checkpoints 50, 100, ... one an hour.
std::vector<RetentionCandidate> hourly(int count) {
  std::vector<RetentionCandidate> all;
  for (int i = 1; i <= count; ++i)
    all.push_back(
        {CheckpointId(50ULL * static_cast<std::uint64_t>(i)), i * 3'600'000LL, {}, false});
  return all;
}

TEST(RetentionPolicies, KeepsThoseAfterAMultipleOfSteps) {
  const auto kept = kept_by({.last = 1, .best = 0, .every_steps = 100}, hourly(7));
  EXPECT_THAT(kept_ids(kept), ElementsAre(100, 200, 300, 350));
  EXPECT_THAT(kept.at(CheckpointId(300)), ElementsAre("every 100 steps"));
  EXPECT_THAT(kept.at(CheckpointId(350)), ElementsAre("last 1"));
}

TEST(RetentionPolicies, KeepsOneInEachInterval) {
  const RetentionPolicy policy{.last = 1, .best = 0, .interval_seconds = 3 * 3600.0};
  EXPECT_THAT(kept_ids(kept_by(policy, hourly(9))), ElementsAre(50, 200, 350, 450));
}

TEST(RetentionPolicies, AClockThatWentBackBeginsANewInterval) {
  auto all = hourly(4);
  all[2].unix_ms = 1000;  // the clock was wrong before
  all[3].unix_ms = 2000;
  const RetentionPolicy policy{.last = 1, .best = 0, .interval_seconds = 10 * 3600.0};
  EXPECT_THAT(kept_ids(kept_by(policy, all)), ElementsAre(50, 150, 200));
}

TEST(RetentionPolicies, DamagedOnesTakeNoPlace) {
  auto all = hourly(5);
  all[4].damaged = true;
  all[4].score = 1;
  all[1].score = 0.5;
  EXPECT_THAT(kept_ids(kept_by({.last = 2, .best = 1}, all)), ElementsAre(100, 150, 200));
}

TEST(RetentionPolicies, FollowTheSpec) {
  CheckpointSpec spec;
  spec.keep_last = 7;
  spec.keep_every_steps = 500;
  spec.keep_interval_seconds = 60;
  const RetentionPolicy policy = retention_of(spec);
  EXPECT_EQ(policy.last, 7U);
  EXPECT_EQ(policy.every_steps, 500U);
  EXPECT_EQ(policy.interval_seconds, 60);
}

RetentionPolicy random_policy(std::mt19937_64& random) {
  RetentionPolicy policy;
  policy.last = static_cast<std::uint32_t>(random() % 4);
  policy.best = static_cast<std::uint32_t>(random() % 3);
  if (random() % 2 == 0) policy.every_steps = 1 + random() % 6;
  if (random() % 2 == 0) policy.interval_seconds = static_cast<double>(1 + random() % 20);
  return policy;
}

// What was kept stays kept when the others are gone, for as long as the policy is the same: nothing
// that was meant for good is ever lost to a later look.
TEST(RetentionPolicies, KeptForGoodIsKeptForGood) {
  for (std::uint64_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const RetentionPolicy policy = random_policy(random);
    std::vector<RetentionCandidate> left;
    std::int64_t now = 0;
    std::set<CheckpointId> for_good;
    for (std::uint64_t id = 1; id <= 60; ++id) {
      now += static_cast<std::int64_t>(random() % 5000);
      left.push_back({CheckpointId(id), now, {}, false});
      const Reasons kept = kept_by(policy, left);
      std::erase_if(left, [&](const auto& one) { return !kept.contains(one.id); });
      for (const auto& [one, reasons] : kept)
        for (const auto& reason : reasons)
          if (reason.starts_with("every") || reason.starts_with("one in")) for_good.insert(one);
      for (const CheckpointId one : for_good) ASSERT_TRUE(kept.contains(one)) << one.value();
      ASSERT_TRUE(kept.contains(CheckpointId(id))) << "the newest";
    }
  }
}

// Random policies over a real store with pins, marks, damage and evaluations: after each step the
// newest that verifies is there, and so is all that is pinned, in use or kept by the policy.
class RandomHistory {
 public:
  explicit RandomHistory(std::uint64_t seed) : random_(seed) {
    store_ = must(JobStore::open(folder_ / "store"));
  }

  void step() {
    switch (random_() % 7) {
      case 0:
      case 1:
        save();
        break;
      case 2:
        evaluate();
        break;
      case 3:
        if (const auto id = any()) must(store_->pin(*id, pb::CheckpointPin()));
        break;
      case 4:
        if (const auto id = any(); id && must(store_->pins()).contains(*id))
          must(store_->unpin(*id));
        break;
      case 5:
        if (const auto id = any()) mark(*id);
        break;
      default:
        retain();
    }
  }

 private:
  std::optional<CheckpointId> any() {
    const auto ids = must(store_->checkpoint_ids());
    if (ids.empty()) return std::nullopt;
    return ids[random_() % ids.size()];
  }
  void save() {
    const CheckpointShape shape{.chunks = 1, .chunk_bytes = 64};
    pb::CheckpointManifest manifest = manifest_of(++newest_, shape);
    now_ += static_cast<std::int64_t>(random_() % 5000);
    manifest.set_unix_ms(now_);
    const std::string bytes = chunk_bytes(newest_, 0, 64);
    auto writer = must(store_->begin_checkpoint(CheckpointId(newest_)));
    must(writer->put_chunk(manifest.chunks(0), as_span(bytes)));
    must(writer->commit(manifest));
  }
  void evaluate() {
    const auto id = any();
    if (!id) return;
    pb::EvaluationRecord record;
    record.set_checkpoint(id->value());
    record.set_mean(static_cast<double>(random_() % 100) / 100);
    must(store_->put_evaluation(record, Sync::no));
  }
  // Says that it is damaged: from then on no policy relies on it.
  void mark(CheckpointId id) {
    VerifyReport report = must(store_->verify(id));
    report.problems = {"marked by the test"};
    report.damaged = true;
    must(store_->mark_damaged(report));
  }
  void retain() {
    const RetentionPolicy policy = random_policy(random_);
    std::set<CheckpointId> in_use;
    if (const auto id = any(); id && random_() % 2 == 0) in_use.insert(*id);
    const auto before = must(store_->checkpoint_ids());
    const auto pins = must(store_->pins());
    const auto nobody = [](const VerifyReport&) {};
    const auto newest = must(store_->newest_verified(nobody));
    const Reasons plan = must(store_->retained(policy, in_use));
    const auto dropped = must(store_->apply_retention(policy, in_use));
    const auto after = must(store_->checkpoint_ids());

    EXPECT_EQ(before.size(), dropped.size() + after.size());
    const std::set<CheckpointId> left(after.begin(), after.end());
    for (const CheckpointId id : before) EXPECT_EQ(left.contains(id), plan.contains(id));
    for (const auto& [id, pin] : pins) EXPECT_TRUE(left.contains(id)) << "pinned " << id.value();
    for (const CheckpointId id : in_use) EXPECT_TRUE(left.contains(id)) << "used " << id.value();
    if (newest) {
      const auto now = must(store_->newest_verified(nobody));
      ASSERT_TRUE(now.has_value());
      EXPECT_EQ(now->id(), newest->id());
    }
  }

  TempFolder folder_;
  std::unique_ptr<JobStore> store_;
  std::mt19937_64 random_;
  std::uint64_t newest_ = 0;
  std::int64_t now_ = 0;
};

TEST(RetentionOfAStore, C2WhateverThePolicySays) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomHistory history(seed);
    for (int i = 0; i < 60 && !testing::Test::HasFailure(); ++i) history.step();
  }
}

class MarksTest : public testing::Test {
 protected:
  MarksTest() {
    store_ = must(JobStore::open(folder_ / "store"));
    for (const std::uint64_t id : {1, 2, 3}) must(write_checkpoint(*store_, id));
  }
  VerifyReport broken(std::uint64_t id) {
    VerifyReport report = must(store_->verify(CheckpointId(id)));
    report.problems = {"chunk/x: broken"};
    report.damaged = true;
    return report;
  }
  TempFolder folder_;
  std::unique_ptr<JobStore> store_;
};

TEST_F(MarksTest, PinsOutliveRetentionAndReopening) {
  pb::CheckpointPin pin;
  pin.set_note("the paper's table 2");
  must(store_->pin(CheckpointId(1), pin));
  must(store_->apply_retention({.last = 1, .best = 0}, {}));
  EXPECT_EQ(ids_of(*store_), std::vector<std::uint64_t>({1, 3}));
  store_.reset();
  store_ = must(JobStore::open(folder_ / "store"));
  EXPECT_EQ(must(store_->pins()).at(CheckpointId(1)).note(), "the paper's table 2");
  must(store_->unpin(CheckpointId(1)));
  must(store_->apply_retention({.last = 1, .best = 0}, {}));
  EXPECT_EQ(ids_of(*store_), std::vector<std::uint64_t>({3}));
  EXPECT_EQ(store_->pin(CheckpointId(1), pin).error().code, Errc::not_found);
  EXPECT_EQ(store_->unpin(CheckpointId(3)).error().code, Errc::not_found);
}

TEST_F(MarksTest, AMarkedOneIsTakenOnlyWhenNoOtherVerifies) {
  must(store_->mark_damaged(broken(3)));
  std::vector<std::string> heard;
  const auto hear = [&](const VerifyReport& bad) { heard.push_back(bad.problems.at(0)); };
  EXPECT_EQ(must(store_->newest_verified(hear))->id(), 2U);
  EXPECT_THAT(heard, ElementsAre("chunk/x: broken")) << "from the mark: it was not read";
  must(store_->mark_damaged(broken(2)));
  must(store_->mark_damaged(broken(1)));
  heard.clear();
  EXPECT_EQ(must(store_->newest_verified(hear))->id(), 3U) << "they are good after all";
  EXPECT_THAT(heard, IsEmpty());
}

TEST_F(MarksTest, AWriteTakesTheMarkAwayAndAnOldReportMarksNothing) {
  const VerifyReport old = broken(3);
  must(store_->mark_damaged(old));
  EXPECT_EQ(must(store_->damages()).size(), 1U);
  must(write_checkpoint(*store_, 3));
  EXPECT_THAT(must(store_->damages()), IsEmpty());
  must(store_->mark_damaged(old));
  EXPECT_THAT(must(store_->damages()), IsEmpty());
}

}  // namespace
}  // namespace crabcast::storage
