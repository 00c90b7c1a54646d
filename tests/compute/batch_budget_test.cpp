#include "actors/compute/batch_budget.h"

#include <gtest/gtest.h>

#include <deque>

#include "model/random.h"

namespace crabcast::actors {
namespace {

TEST(BatchBudget, BoundsTheNumber) {
  BatchBudget budget(3, 1000);
  EXPECT_TRUE(budget.has_room(0, 0, 2));
  EXPECT_TRUE(budget.has_room(1, 10, 1));
  EXPECT_FALSE(budget.has_room(1, 10, 2));
}

TEST(BatchBudget, TakesWhatComesToBeAsLargeAsTheLargest) {
  BatchBudget budget(100, 1000);
  EXPECT_TRUE(budget.has_room(0, 0, 50)) << "nothing is known of sizes yet";
  budget.came(300);
  budget.came(100);
  EXPECT_TRUE(budget.has_room(0, 0, 2));
  EXPECT_FALSE(budget.has_room(0, 0, 3));
  EXPECT_FALSE(budget.has_room(2, 600, 1));
}

// A worker that asks whenever there is room, with batches that come and are used at random.
TEST(BatchBudget, MemoryStaysWithinTheLimitWhateverComesWhen) {
  constexpr std::uint64_t kLimit = 10'000, kLargest = 1000;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    BatchBudget budget(40, kLimit);
    budget.came(kLargest);
    std::deque<std::uint64_t> here;
    std::uint64_t bytes = 0;
    std::size_t coming = 0, used = 0;
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const std::uint64_t random = model::random_bits(seed, i);
      if (budget.has_room(here.size(), bytes, coming)) ++coming;
      if (coming > 0 && random % 3 != 0) {
        --coming;
        here.push_back(1 + random % kLargest);
        bytes += here.back();
      }
      if (!here.empty() && random % 5 < 2) {
        bytes -= here.front();
        here.pop_front();
        ++used;
      }
      ASSERT_LE(bytes, kLimit) << "seed " << seed;
      ASSERT_LE(here.size() + coming, 40U);
    }
    EXPECT_GT(used, 500U) << "it must not stand still";
  }
}

}  // namespace
}  // namespace crabcast::actors
