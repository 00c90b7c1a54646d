// The simulator's checks find what they are there to find: decisions that no scheduler should make.
#include "scheduler/simulator_books.h"

#include <gmock/gmock.h>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

using testing::HasSubstr;

// Two nodes of 3 CPUs; jobs with a small coordinator and two workers of a CPU each.
class BooksTest : public testing::Test {
 protected:
  BooksTest() {
    workload_.nodes = {node("a", 3), node("b", 3)};
    workload_.policy = policy_of(R"(
crabcast: 1
queues:
  default: {limit: {cpus: 4}}
)");
    for (const char* id : {"one", "two", "high"}) {
      SimulatedJob each;
      each.request = job(id, workload_.jobs.size() + 1, 2, 2);
      if (id == std::string("high")) each.request.priority = Priority::high;
      workload_.jobs.push_back(each);
    }
    books_.emplace(workload_, true);
  }
  BookedJob& booked(const std::string& id) { return *books_->find(JobId(id)); }
  // A decision that puts the job's roles on these nodes.
  static Placement on(const std::string& id, const std::vector<std::string>& nodes) {
    const JobRequest request = job(id, 1, 2, 2);
    Placement placement{JobId(id), {}};
    const std::vector<RoleRequest> roles = {request.fixed[0], request.workers[0],
                                            request.workers[1]};
    for (std::size_t i = 0; i < nodes.size(); ++i)
      placement.roles.push_back({roles[i].role, roles[i].kind, NodeId(nodes[i]), roles[i].need});
    return placement;
  }
  std::string start(const std::string& id, const Placement& placement, TimePoint now = kStart) {
    if (booked(id).state == BookedJob::State::to_come) books_->wait(booked(id), now);
    return books_->place(booked(id), placement, true, scheduler_, now).value_or("");
  }

  Workload workload_;
  std::optional<Books> books_;
  Scheduler scheduler_;
};

TEST_F(BooksTest, AGoodDecisionBreaksNothing) {
  EXPECT_EQ(start("one", on("one", {"a", "a", "a"})), "");
}

TEST_F(BooksTest, RoomThatIsGivenTwice) {
  EXPECT_EQ(start("one", on("one", {"a", "a", "a"})), "");
  EXPECT_THAT(start("two", on("two", {"a", "a", "b"})), HasSubstr("node a is given twice"));
}

TEST_F(BooksTest, APartialGang) {
  EXPECT_THAT(start("one", on("one", {"a", "a"})), HasSubstr("partial gang"));
}

TEST_F(BooksTest, AStartOfAJobThatRuns) {
  EXPECT_EQ(start("one", on("one", {"a", "a", "a"})), "");
  EXPECT_THAT(start("one", on("one", {"b", "b", "b"})), HasSubstr("does not wait"));
}

TEST_F(BooksTest, ALostNode) {
  books_->node_down(books_->node_number(NodeId("b")));
  EXPECT_THAT(start("one", on("one", {"a", "a", "b"})), HasSubstr("lost node b"));
}

TEST_F(BooksTest, MoreThanTheQueueMayHave) {
  EXPECT_EQ(start("one", on("one", {"a", "a", "a"})), "");
  EXPECT_THAT(start("two", on("two", {"b", "b", "b"})), HasSubstr("queue default uses"));
}

TEST_F(BooksTest, ALowerPriorityFirst) {
  books_->wait(booked("high"), kStart);
  EXPECT_THAT(start("one", on("one", {"a", "a", "a"})), HasSubstr("it starts before high"));
}

TEST_F(BooksTest, AJobThatStarved) {
  books_->wait(booked("one"), kStart);
  books_->grow_old(booked("one"), kStart);
  EXPECT_FALSE(books_->check_start_in_time(booked("one"), at(1)));
  EXPECT_THAT(start("one", on("one", {"a", "a", "a"}), at(600)), HasSubstr("it starved"));
}

}  // namespace
}  // namespace crabcast::scheduler
