#include "storage/fence.h"

#include <gmock/gmock.h>

#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

using testing::HasSubstr;

class Fence : public testing::Test {
 protected:
  std::unique_ptr<JobStore> open() { return must(JobStore::open(folder_ / "store")); }
  TempFolder folder_;
};

TEST_F(Fence, AStoreIsTheHighestOnesForGood) {
  EXPECT_EQ(must(fence_of(*open())), 0U);
  must(take_fence(*open(), 2));
  must(take_fence(*open(), 2));  // its coordinator starts again
  EXPECT_EQ(must(fence_of(*open())), 2U);
  must(take_fence(*open(), 3));
  const Status late = take_fence(*open(), 2);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::stale_generation);
  EXPECT_THAT(late.error().message, HasSubstr("3"));
  EXPECT_EQ(must(fence_of(*open())), 3U);
}

TEST_F(Fence, SomethingElseUnderItsKeyIsDamage) {
  for (const char* text : {"", "two", "2 ", "-1", "99999999999999999999"}) {
    must(open()->put_value("fence", text, Sync::no));
    EXPECT_EQ(fence_of(*open()).error().code, Errc::corrupt) << text;
    EXPECT_EQ(take_fence(*open(), 9).error().code, Errc::corrupt) << text;
  }
}

// The database's lock is the lease on one machine: the kernel gives it back when its holder dies.
TEST_F(Fence, WhoHasTheStoreOpenIsNotDisplacedInTheMiddle) {
  const auto first = open();
  must(take_fence(*first, 1));
  const auto second = JobStore::open(folder_ / "store");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::already_exists);
  must(first->append_commit(commit_record(1), Sync::yes));
}

}  // namespace
}  // namespace crabcast::storage
