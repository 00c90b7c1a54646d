// Jobs whose coordinator must go where their store is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

JobRequest job(const std::string& id, std::uint64_t seq, std::uint32_t workers) {
  return scheduler::job(id, seq, workers, workers);
}

class StoreBound : public testing::Test {
 protected:
  void add_node(const std::string& id, std::int64_t cpu_millis) {
    scheduler_.upsert_node({NodeId(id), {cpu_millis, 0, 64 * kGiB}, true});
  }
  // Where the job's coordinator was placed now; empty: it was not.
  std::string placed(const std::string& id) {
    for (const Placement& placement : placed_now(scheduler_))
      for (const RolePlacement& role : placement.roles)
        if (placement.job == JobId(id) && role.kind == pb::ROLE_COORDINATOR)
          return role.node.value();
    return {};
  }
  Pending why(const std::string& id) { return scheduler::why(scheduler_, id); }
  Scheduler scheduler_;
};

TEST_F(StoreBound, TheCoordinatorGoesWhereItsStoreIs) {
  add_node("a", 8000);
  add_node("b", 8000);
  JobRequest request = job("j", 1, 2);
  request.fixed.front().only_on = {NodeId("b")};
  ASSERT_TRUE(scheduler_.submit(request));
  EXPECT_EQ(placed("j"), "b");
}

TEST_F(StoreBound, OtherRolesLeaveRoomForIt) {
  add_node("a", 1000);
  add_node("b", 1100);
  JobRequest request = job("j", 1, 2);
  request.fixed.front().only_on = {NodeId("b")};
  ASSERT_TRUE(scheduler_.submit(request));
  EXPECT_EQ(placed("j"), "b") << "a worker is larger, and still does not take its place";
}

TEST_F(StoreBound, AWaitingJobIsBoundAndSetFree) {
  ASSERT_TRUE(scheduler_.submit(job("j", 1, 1)));
  scheduler_.hold_to(JobId("j"), {NodeId("b")});
  scheduler_.hold_to(JobId("nobody"), {NodeId("b")});
  add_node("a", 8000);
  EXPECT_EQ(placed("j"), "");
  scheduler_.hold_to(JobId("j"), {});
  EXPECT_EQ(placed("j"), "a");
}

TEST_F(StoreBound, ItSaysWhereItsStoreIs) {
  add_node("a", 8000);
  add_node("b", 1100);
  ASSERT_TRUE(scheduler_.submit(job("other", 1, 1)));
  scheduler_.hold_to(JobId("other"), {NodeId("b")});
  ASSERT_EQ(placed("other"), "b");
  ASSERT_TRUE(scheduler_.submit(job("j", 2, 1)));
  scheduler_.hold_to(JobId("j"), {NodeId("b")});
  EXPECT_THAT(placed_now(scheduler_), IsEmpty());
  EXPECT_EQ(why("j").reason, PendingReason::no_room_at_store);
  EXPECT_THAT(why("j").text, HasSubstr("(b)"));
  EXPECT_THAT(why("j").text, HasSubstr("coordinator needs 0.1 CPUs"));
}

// Waiting cannot help it, so nobody waits behind it.
TEST_F(StoreBound, OneWhoseStoreNodeIsTooSmallHoldsNobodyUp) {
  add_node("a", 8000);
  add_node("b", 50);
  ASSERT_TRUE(scheduler_.submit(job("j", 1, 1)));
  scheduler_.hold_to(JobId("j"), {NodeId("b")});
  ASSERT_TRUE(scheduler_.submit(job("next", 2, 1)));
  EXPECT_EQ(placed("next"), "a");
  EXPECT_EQ(why("j").reason, PendingReason::store_node_too_small);
}

// What it lacks comes first: a node of its own would not help.
TEST_F(StoreBound, AJobThatFitsNowhereSaysThat) {
  add_node("a", 100);
  add_node("b", 100);
  ASSERT_TRUE(scheduler_.submit(job("j", 1, 1)));
  scheduler_.hold_to(JobId("j"), {NodeId("b")});
  EXPECT_EQ(why("j").reason, PendingReason::larger_than_cluster);
}

}  // namespace
}  // namespace crabcast::scheduler
