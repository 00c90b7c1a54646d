// How the shares of the tasks follow their losses.
#include "actors/control/mixture.h"

#include <gtest/gtest.h>

#include <cmath>

namespace crabcast::actors {
namespace {

const std::vector<std::string> kTasks = {"action_recognition", "captioning"};

MixtureSpec spec() {
  MixtureSpec spec;
  spec.policy = MixturePolicy::adaptive;
  spec.adapt_every_steps = 20;
  spec.adapt_by = 0.1;
  return spec;
}

pb::CommitRecord commit(std::uint64_t step, double action, double captioning) {
  pb::CommitRecord record;
  record.set_step(step);
  for (const auto& [task, loss] :
       {std::pair(kTasks[0], action), std::pair(kTasks[1], captioning)}) {
    auto& entry = *record.add_losses();
    entry.set_task(task);
    entry.set_loss_sum(10 * loss);
    entry.set_tokens(10);
  }
  return record;
}

// Trains up to a step with constant losses; what a coordinator would have in its ledger.
std::vector<pb::CommitRecord> train(AdaptiveMixture& mixture, std::uint64_t from, std::uint64_t to,
                                    double action, double captioning) {
  std::vector<pb::CommitRecord> ledger;
  for (auto step = from; step <= to; ++step) {
    auto record = commit(step, action, captioning);
    if (const auto change = mixture.change_after(record)) *record.mutable_mixture() = *change;
    mixture.add(record);
    ledger.push_back(record);
  }
  return ledger;
}

std::uint32_t weight(const pb::MixtureChange& change, int task) {
  return change.weights(task).weight();
}

TEST(AdaptiveMixture, IsDecidedAheadAndCountsFromTheNextPeriodOn) {
  AdaptiveMixture mixture(spec(), kTasks, {}, {});
  train(mixture, 1, 11, 1, 3);
  EXPECT_TRUE(mixture.changes().empty());
  train(mixture, 12, 60, 1, 3);
  ASSERT_EQ(mixture.changes().size(), 3U) << "after steps 12, 32 and 52";
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(mixture.changes()[k].number(), k + 1);
    EXPECT_EQ(mixture.changes()[k].first_step(), 20 * (k + 1) + 1);
  }
  EXPECT_EQ(last_decision(11, 20), 0U);
  EXPECT_EQ(last_decision(12, 20), 12U);
  EXPECT_EQ(last_decision(51, 20), 32U);
}

// Losses 1 and 3 ask for weights 500 and 1500; each change goes a tenth of the way at most.
TEST(AdaptiveMixture, MovesTowardsTheLossesInBoundedChanges) {
  AdaptiveMixture mixture(spec(), kTasks, {}, {});
  train(mixture, 1, 12, 1, 3);
  EXPECT_EQ(weight(mixture.changes().back(), 0), 900U);
  EXPECT_EQ(weight(mixture.changes().back(), 1), 1100U);
  EXPECT_DOUBLE_EQ(mixture.changes().back().weights(1).loss(), 3);
  train(mixture, 13, 400, 1, 3);
  EXPECT_EQ(weight(mixture.changes().back(), 0), 500U);
  EXPECT_EQ(weight(mixture.changes().back(), 1), 1500U);
  train(mixture, 401, 2000, 0, 1e9);
  EXPECT_EQ(weight(mixture.changes().back(), 0), 250U) << "never below a quarter";
  EXPECT_LE(weight(mixture.changes().back(), 1), 4000U);
}

TEST(AdaptiveMixture, ATaskWithoutALossKeepsItsWeight) {
  AdaptiveMixture mixture(spec(), kTasks, {}, {});
  for (std::uint64_t step = 1; step <= 12; ++step) {
    auto record = commit(step, 2, std::nan(""));
    if (step % 2 == 0) record.set_skipped(true);
    if (const auto change = mixture.change_after(record)) *record.mutable_mixture() = *change;
    mixture.add(record);
  }
  ASSERT_EQ(mixture.changes().size(), 1U);
  EXPECT_EQ(weight(mixture.changes()[0], 0), 1000U);
  EXPECT_EQ(weight(mixture.changes()[0], 1), 1000U);
}

// A coordinator that starts again, at any step, decides what the first one would have decided.
TEST(AdaptiveMixture, GoesOnFromTheLedger) {
  AdaptiveMixture whole(spec(), kTasks, {}, {});
  auto ledger = train(whole, 1, 45, 1, 2);
  const auto more = train(whole, 46, 120, 3, 1);
  ledger.insert(ledger.end(), more.begin(), more.end());
  for (const std::uint64_t at : {0, 5, 11, 12, 13, 31, 32, 33, 45, 52, 60, 100}) {
    std::vector<pb::MixtureChange> changes;
    TaskLosses window;
    for (const auto& record : ledger) {
      if (record.step() > at) break;
      if (record.has_mixture()) changes.push_back(record.mixture());
      if (record.step() > last_decision(at, 20)) add_losses(window, record);
    }
    AdaptiveMixture again(spec(), kTasks, changes, window);
    AdaptiveMixture rewound(spec(), kTasks, whole.changes(), {});
    rewound.rewind(at, window);
    for (auto step = at + 1; step <= 120; ++step) {
      const auto& expected = ledger[step - 1];
      auto record = expected;
      record.clear_mixture();
      for (AdaptiveMixture* mixture : {&again, &rewound}) {
        const auto change = mixture->change_after(record);
        ASSERT_EQ(change.has_value(), expected.has_mixture()) << "step " << step << " after " << at;
        if (change) {
          EXPECT_EQ(change->SerializeAsString(), expected.mixture().SerializeAsString());
        }
        mixture->add(expected);
      }
    }
  }
}

}  // namespace
}  // namespace crabcast::actors
