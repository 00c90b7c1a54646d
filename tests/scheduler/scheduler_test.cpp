#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A running job of one role takes `need` on that node.
void occupy(Scheduler& scheduler, const std::string& node_id, Amount need) {
  JobRequest request;
  request.id = JobId("on-" + node_id);
  request.workers_min = 0;
  request.fixed.push_back({"x", pb::ROLE_LOADER, need});
  scheduler.adopt(request, {request.id, {{"x", pb::ROLE_LOADER, NodeId(node_id), need}}});
}

TEST(JobRequest, NamesEveryRoleOfTheSpec) {
  JobSpec spec;
  spec.queue = "research";
  spec.priority = Priority::high;
  spec.resources.workers_min = 1;
  spec.resources.workers_max = 2;
  spec.resources.loaders = 2;
  spec.resources.evaluators = 1;
  spec.resources.worker = {1.5, 1, 3ULL << 30};
  const JobRequest request = job_request(JobId("quickstart-1"), spec, 7);
  EXPECT_EQ(request.id, JobId("quickstart-1"));
  EXPECT_EQ(request.queue, "research");
  EXPECT_EQ(request.priority, Priority::high);
  EXPECT_EQ(request.submit_seq, 7U);
  EXPECT_EQ(request.workers_min, 1U);
  std::vector<std::string> names;
  for (const RoleRequest& role : request.fixed) names.push_back(role.role);
  EXPECT_THAT(names, ElementsAre("coordinator", "loader-0", "loader-1", "evaluator-0"));
  EXPECT_EQ(request.fixed[0].kind, pb::ROLE_COORDINATOR);
  EXPECT_EQ(request.fixed[0].need, (Amount{100, 0, 256LL << 20}));
  EXPECT_EQ(request.fixed[1].kind, pb::ROLE_LOADER);
  EXPECT_EQ(request.fixed[1].need, amount(spec.resources.loader));
  EXPECT_EQ(request.fixed[3].kind, pb::ROLE_EVALUATOR);
  ASSERT_EQ(request.workers.size(), 2U);
  EXPECT_EQ(request.workers[1].role, "worker-1");
  EXPECT_EQ(request.workers[1].kind, pb::ROLE_WORKER);
  EXPECT_EQ(request.workers[1].need, (Amount{1500, 1, 3 * kGiB}));
}

TEST(Amount, CpusAreExactThousandths) {
  Amount sum;
  for (int i = 0; i < 10; ++i) sum += amount(ProcessResources{0.1, 0, 0});
  EXPECT_EQ(sum.cpu_millis, 1000);
  EXPECT_EQ(to_string(Amount{2500, 1, 4 * kGiB}), "2.5 CPUs, 1 GPU, 4.0 GiB");
  EXPECT_EQ(to_string(Amount{1000, 0, 256 << 20}), "1 CPU, 256.0 MiB");
}

TEST(Submit, RefusesDoublesAndBrokenRequests) {
  Scheduler scheduler;
  ASSERT_TRUE(scheduler.submit(job("a", 1, 1, 1)));
  EXPECT_EQ(scheduler.submit(job("a", 2, 1, 1)).error().code, Errc::already_exists);
  EXPECT_EQ(scheduler.submit(job("b", 2, 3, 2)).error().code, Errc::invalid_argument);
  JobRequest twice = job("c", 3, 1, 1);
  twice.fixed.push_back(twice.fixed.front());
  EXPECT_EQ(scheduler.submit(twice).error().code, Errc::invalid_argument);
}

TEST(Placement, OneNodeWhenItFits) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 4));
  scheduler.upsert_node(node("b", 4));
  ASSERT_TRUE(scheduler.submit(job("j", 1, 3, 3)));
  EXPECT_THAT(text_of(placed_now(scheduler)),
              ElementsAre("j: coordinator@a worker-0@a worker-1@a worker-2@a"));
  EXPECT_EQ(scheduler.free_on(NodeId("a")), (Amount{900, 0, 61 * kGiB - kGiB / 4}));
  EXPECT_THAT(placed_now(scheduler), IsEmpty());
}

TEST(Placement, GangOverSeveralNodesOrNotAtAll) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 2.1));
  ASSERT_TRUE(scheduler.submit(job("j", 1, 4, 4)));
  EXPECT_THAT(placed_now(scheduler), IsEmpty());
  EXPECT_EQ(scheduler.free_on(NodeId("a")).cpu_millis, 2100);
  scheduler.upsert_node(node("b", 2));
  EXPECT_THAT(text_of(placed_now(scheduler)),
              ElementsAre("j: coordinator@a worker-0@a worker-1@a worker-2@b worker-3@b"));
}

TEST(Placement, PacksTheTightestNodeAndSparesGpus) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 8, 8));
  scheduler.upsert_node(node("b", 8));
  scheduler.upsert_node(node("c", 2));
  ASSERT_TRUE(scheduler.submit(job("cpu", 1, 1, 1)));
  ASSERT_TRUE(scheduler.submit(job("gpu", 2, 2, 2, {1000, 1, kGiB})));
  EXPECT_THAT(
      text_of(placed_now(scheduler)),
      ElementsAre("cpu: coordinator@c worker-0@c", "gpu: coordinator@a worker-0@a worker-1@a"));
}

TEST(Placement, EqualNodesGoByName) {
  Scheduler scheduler;
  for (const char* id : {"n2", "n0", "n1"}) scheduler.upsert_node(node(id, 1.1));
  for (std::uint64_t i = 0; i < 3; ++i)
    ASSERT_TRUE(scheduler.submit(job("j" + std::to_string(i), i, 1, 1)));
  EXPECT_THAT(text_of(placed_now(scheduler)),
              ElementsAre("j0: coordinator@n0 worker-0@n0", "j1: coordinator@n1 worker-0@n1",
                          "j2: coordinator@n2 worker-0@n2"));
}

TEST(Queue, PriorityFirstThenSubmitOrder) {
  Scheduler scheduler;
  ASSERT_TRUE(scheduler.submit(job("late", 3, 1, 1)));
  ASSERT_TRUE(scheduler.submit(job("early", 1, 1, 1)));
  ASSERT_TRUE(scheduler.submit(job("urgent", 4, 1, 1, {1000, 0, kGiB}, Priority::critical)));
  scheduler.upsert_node(node("a", 2.2));
  const auto placed = placed_now(scheduler);
  ASSERT_EQ(placed.size(), 2U);
  EXPECT_EQ(placed[0].job, JobId("urgent"));
  EXPECT_EQ(placed[1].job, JobId("early"));
  EXPECT_EQ(reason_of(scheduler, "late"), PendingReason::not_enough_cpus);
}

TEST(Queue, NobodyOvertakesAWaitingJob) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 4));
  ASSERT_TRUE(scheduler.submit(job("running", 1, 2, 2)));
  (void)placed_now(scheduler);
  ASSERT_TRUE(scheduler.submit(job("big", 2, 3, 3)));
  ASSERT_TRUE(scheduler.submit(job("small", 3, 1, 1)));
  ASSERT_TRUE(scheduler.submit(job("humble", 4, 1, 1, {1000, 0, kGiB}, Priority::low)));
  EXPECT_THAT(placed_now(scheduler), IsEmpty());
  EXPECT_EQ(reason_of(scheduler, "big"), PendingReason::not_enough_cpus);
  EXPECT_EQ(reason_of(scheduler, "small"), PendingReason::behind_queue);
  EXPECT_EQ(reason_of(scheduler, "humble"), PendingReason::behind_priority);
  scheduler.remove_job(JobId("running"));
  EXPECT_THAT(text_of(placed_now(scheduler)),
              ElementsAre("big: coordinator@a worker-0@a worker-1@a worker-2@a"));
}

TEST(Queue, AJobThatCanNeverFitIsPassedOver) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 4));
  ASSERT_TRUE(scheduler.submit(job("huge", 1, 1, 1, {8000, 0, kGiB})));
  ASSERT_TRUE(scheduler.submit(job("small", 2, 1, 2)));
  const auto placed = placed_now(scheduler);
  ASSERT_FALSE(placed.empty());
  EXPECT_EQ(placed.front().job, JobId("small"));
  EXPECT_EQ(reason_of(scheduler, "huge"), PendingReason::larger_than_cluster);
  scheduler.upsert_node(node("b", 9));
  EXPECT_THAT(text_of(placed_now(scheduler)), ElementsAre("huge: coordinator@b worker-0@b"));
}

TEST(Reasons, EachNamesTheNumbers) {
  Scheduler scheduler;
  ASSERT_TRUE(scheduler.submit(job("j", 1, 2, 2, {1500, 1, 8 * kGiB})));
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::no_nodes);
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("No node has joined"));

  Node sick = node("a", 8, 2);
  sick.healthy = false;
  scheduler.upsert_node(sick);
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::no_nodes);
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("No node is healthy, of 1 that joined"));

  scheduler.upsert_node(node("a", 8, 1));
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::larger_than_cluster);
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("needs 3.1 CPUs, 2 GPUs, 16.2 GiB"));
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("has 8 CPUs, 1 GPU, 64.0 GiB on 1 healthy node"));

  scheduler.upsert_node(node("a", 4, 2, 32));
  occupy(scheduler, "a", {2000, 0, 0});
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::not_enough_cpus);
  EXPECT_EQ(why(scheduler, "j").text, "Needs 3.1 CPUs at once; 2 free on 1 healthy node.");
  EXPECT_EQ(why(scheduler, "j").would_help, "1.1 CPUs more would let it start.");

  occupy(scheduler, "a", {0, 1, 0});
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::not_enough_gpus);
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("Needs 2 GPUs at once; 1 free"));

  occupy(scheduler, "a", {0, 0, 20 * kGiB});
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::not_enough_memory);
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("12.0 GiB free"));
}

TEST(Reasons, FragmentedWhenTheSumIsEnough) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 4));
  scheduler.upsert_node(node("b", 4));
  occupy(scheduler, "a", {2000, 0, 0});
  occupy(scheduler, "b", {2000, 0, 0});
  ASSERT_TRUE(scheduler.submit(job("j", 1, 1, 1, {3000, 0, kGiB})));
  EXPECT_THAT(placed_now(scheduler), IsEmpty());
  EXPECT_EQ(reason_of(scheduler, "j"), PendingReason::fragmented);
  EXPECT_THAT(why(scheduler, "j").text, HasSubstr("worker-0, needs 3 CPUs, 1.0 GiB on one node"));
}

TEST(Elastic, GrowsOneWorkerEachInTurnWhenNobodyWaits) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 5.2));
  ASSERT_TRUE(scheduler.submit(job("x", 1, 1, 3)));
  ASSERT_TRUE(scheduler.submit(job("y", 2, 1, 3)));
  EXPECT_THAT(text_of(placed_now(scheduler)),
              ElementsAre("x: coordinator@a worker-0@a", "y: coordinator@a worker-0@a",
                          "x: worker-1@a worker-2@a", "y: worker-1@a"));
}

TEST(Elastic, DoesNotGrowWhileAJobWaits) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 4));
  ASSERT_TRUE(scheduler.submit(job("x", 1, 1, 4)));
  ASSERT_TRUE(scheduler.submit(job("y", 2, 3, 3)));
  EXPECT_THAT(text_of(placed_now(scheduler)), ElementsAre("x: coordinator@a worker-0@a"));
  scheduler.remove_job(JobId("y"));
  EXPECT_THAT(text_of(placed_now(scheduler)), ElementsAre("x: worker-1@a worker-2@a"));
}

TEST(Loss, ALostRoleIsReplacedBeforeLaterJobsStart) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 1.1));
  scheduler.upsert_node(node("b", 1));
  ASSERT_TRUE(scheduler.submit(job("x", 1, 2, 2)));
  ASSERT_EQ(placed_now(scheduler).size(), 1U);
  ASSERT_TRUE(scheduler.submit(job("y", 2, 0, 0)));
  scheduler.remove_node(NodeId("b"));
  scheduler.upsert_node(node("c", 1));
  EXPECT_THAT(text_of(placed_now(scheduler)), ElementsAre("x: worker-1@c"));
  scheduler.release_role(JobId("x"), "coordinator");
  EXPECT_THAT(text_of(placed_now(scheduler)), ElementsAre("x: coordinator@a"));
  EXPECT_EQ(reason_of(scheduler, "y"), PendingReason::not_enough_cpus);
}

TEST(Loss, AJobThatLostEverythingStartsAgainAsAGang) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 3));
  ASSERT_TRUE(scheduler.submit(job("x", 1, 2, 2)));
  ASSERT_EQ(placed_now(scheduler).size(), 1U);
  scheduler.remove_node(NodeId("a"));
  scheduler.upsert_node(node("b", 2));
  EXPECT_THAT(placed_now(scheduler), IsEmpty());
  EXPECT_EQ(reason_of(scheduler, "x"), PendingReason::larger_than_cluster);
  scheduler.upsert_node(node("b", 3));
  EXPECT_THAT(text_of(placed_now(scheduler)),
              ElementsAre("x: coordinator@b worker-0@b worker-1@b"));
}

TEST(Loss, UnhealthyNodesKeepTheirRolesAndGetNoNewOnes) {
  Scheduler scheduler;
  scheduler.upsert_node(node("a", 4));
  ASSERT_TRUE(scheduler.submit(job("x", 1, 1, 1)));
  ASSERT_EQ(placed_now(scheduler).size(), 1U);
  Node sick = node("a", 4);
  sick.healthy = false;
  scheduler.upsert_node(sick);
  EXPECT_EQ(scheduler.free_on(NodeId("a")).cpu_millis, 2900);
  ASSERT_TRUE(scheduler.submit(job("y", 2, 1, 1)));
  EXPECT_THAT(placed_now(scheduler), IsEmpty());
  scheduler.upsert_node(node("a", 4));
  EXPECT_THAT(text_of(placed_now(scheduler)), ElementsAre("y: coordinator@a worker-0@a"));
}

TEST(Adopt, CountsBeforeItsNodeHasJoined) {
  Scheduler scheduler;
  const JobRequest request = job("x", 1, 1, 1);
  scheduler.adopt(request, {request.id,
                            {{"coordinator", 1, NodeId("a"), {100, 0, 0}},
                             {"worker-0", 3, NodeId("a"), {1000, 0, kGiB}}}});
  scheduler.upsert_node(node("a", 2));
  EXPECT_EQ(scheduler.free_on(NodeId("a")).cpu_millis, 900);
  EXPECT_THAT(scheduler.pending(kStart), IsEmpty());
  EXPECT_EQ(scheduler.submit(request).error().code, Errc::already_exists);
  scheduler.remove_job(request.id);
  EXPECT_EQ(scheduler.free_on(NodeId("a")).cpu_millis, 2000);
}

}  // namespace
}  // namespace crabcast::scheduler
