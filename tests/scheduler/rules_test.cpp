// One small staged cluster for each rule of a shared cluster.
#include <gmock/gmock.h>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

JobRequest in(const std::string& queue, JobRequest request, const std::string& owner = "ann") {
  request.queue = queue;
  request.owner = owner;
  return request;
}
JobRequest lasting(double minutes, JobRequest request) {
  request.schedule.expected_seconds = 60 * minutes;
  return request;
}

class Rules : public testing::Test {
 protected:
  void use(const std::string& yaml) { scheduler_ = Scheduler(policy_of(yaml)); }
  void add(const Node& node) { scheduler_.upsert_node(node); }
  void submit(JobRequest request) {
    const Status taken = scheduler_.submit(std::move(request));
    ASSERT_TRUE(taken) << taken.error().message;
  }
  Decisions decide(double minute = 0) { return scheduler_.schedule(at(minute)); }
  std::vector<std::string> started(double minute = 0) {
    std::vector<std::string> ids;
    for (const Placement& placement : decide(minute).start) ids.push_back(placement.job.value());
    return ids;
  }
  PendingReason reason(const std::string& id, double minute = 0) {
    return scheduler_.why(JobId(id), at(minute)).reason;
  }
  Scheduler scheduler_;
};

// ---- Fair share and quota -----------------------------------------------------------------------

TEST_F(Rules, QueuesTakeTurnsByWeight) {
  use("queues: {a: {weight: 2}, b: }");
  add(node("n", 6.6));
  for (std::uint64_t i = 0; i < 6; ++i) {
    submit(in("a", job("a" + std::to_string(i), 2 * i, 1, 1)));
    submit(in("b", job("b" + std::to_string(i), 2 * i + 1, 1, 1)));
  }
  const auto ids = started();
  EXPECT_EQ(std::count_if(ids.begin(), ids.end(), [](const auto& id) { return id[0] == 'a'; }), 4);
  EXPECT_EQ(ids.size(), 6U);
}

// b asks for memory, a for CPUs: each by its dominant share.
TEST_F(Rules, SharesAreThoseOfTheDominantResource) {
  use("queues: {a: , b: }");
  add(node("n", 9, 0, 18));
  for (std::uint64_t i = 0; i < 9; ++i) {
    submit(in("a", job("a" + std::to_string(i), 2 * i, 1, 1, {1900, 0, kGiB / 2})));
    submit(in("b", job("b" + std::to_string(i), 2 * i + 1, 1, 1, {400, 0, 4 * kGiB})));
  }
  const auto ids = started();
  EXPECT_THAT(ids, ElementsAre("a0", "b0", "a1", "b1", "a2", "b2"));
}

TEST_F(Rules, GuaranteesGoBeforeShares) {
  use("queues: {a: {weight: 100}, b: {guaranteed: {cpus: 2.2}}}");
  add(node("n", 2.2));
  submit(in("a", job("a0", 1, 1, 1)));
  submit(in("a", job("a1", 2, 1, 1)));
  submit(in("b", job("b0", 3, 1, 1)));
  submit(in("b", job("b1", 4, 1, 1)));
  EXPECT_THAT(started(), ElementsAre("b0", "b1"));
}

TEST_F(Rules, LimitsHoldAtEveryHeightOfTheTree) {
  use("queues: {a: {limit: {cpus: 2.5}, queues: {x: , y: }}, b: }");
  add(node("n", 20));
  submit(in("a/x", job("x", 1, 1, 1)));
  submit(in("a/y", job("y", 2, 1, 1)));
  submit(in("a/x", job("x2", 3, 1, 1)));
  submit(in("b", job("b", 4, 1, 1)));
  EXPECT_THAT(started(), testing::UnorderedElementsAre("x", "y", "b"));
  EXPECT_EQ(reason("x2"), PendingReason::queue_limit);
  EXPECT_THAT(scheduler_.why(JobId("x2"), at(0)).text, HasSubstr("queue a uses 2.2 CPUs"));
  submit(in("a/y", job("huge", 5, 3, 3)));
  scheduler_.remove_job(JobId("x"));
  EXPECT_THAT(started(), ElementsAre("x2"));
  EXPECT_EQ(reason("huge"), PendingReason::larger_than_quota) << "and nobody waits behind it";
}

TEST_F(Rules, UsersHaveLimitsAndOthersPassThem) {
  use("queues: {a: }\nusers: {ann: {running: 1}, bob: {cpus: 1.5}}");
  add(node("n", 20));
  submit(in("a", job("ann1", 1, 1, 1)));
  submit(in("a", job("ann2", 2, 1, 1)));
  submit(in("a", job("bob1", 3, 1, 1), "bob"));
  submit(in("a", job("bob2", 4, 1, 1), "bob"));
  submit(in("a", job("eve", 5, 1, 1), "eve"));
  EXPECT_THAT(started(), ElementsAre("ann1", "bob1", "eve"));
  EXPECT_EQ(reason("ann2"), PendingReason::user_limit);
  EXPECT_EQ(reason("bob2"), PendingReason::user_limit);
  scheduler_.remove_job(JobId("ann1"));
  EXPECT_THAT(started(1), ElementsAre("ann2"));
}

TEST_F(Rules, WhoIsNotAdmittedWaitsWithTheReason) {
  use("queues: {a: {users: [bob], priorities: [low]}}");
  add(node("n", 20));
  submit(in("a", job("ann", 1, 1, 1)));
  submit(in("nowhere", job("lost", 2, 1, 1)));
  submit(in("a", job("bob", 3, 1, 1, {1000, 0, kGiB}, Priority::low), "bob"));
  EXPECT_THAT(started(), ElementsAre("bob"));
  EXPECT_EQ(reason("ann"), PendingReason::not_permitted);
  EXPECT_EQ(reason("lost"), PendingReason::no_such_queue);
  scheduler_.set_policy(policy_of("queues: {a: , nowhere: }"));
  EXPECT_THAT(started(), testing::UnorderedElementsAre("ann", "lost"));
}

// ---- Held and blocked jobs
// -----------------------------------------------------------------------

TEST_F(Rules, HeldAndBlockedJobsHoldNobodyUp) {
  add(node("n", 2.2));
  JobRequest held = job("held", 1, 1, 1);
  held.held = true;
  submit(held);
  submit(job("blocked", 2, 1, 1));
  scheduler_.block(JobId("blocked"), "It waits for render-1.");
  submit(job("free", 3, 1, 1));
  EXPECT_THAT(started(), ElementsAre("free"));
  EXPECT_EQ(reason("held"), PendingReason::held);
  EXPECT_EQ(reason("blocked"), PendingReason::dependency);
  EXPECT_EQ(scheduler_.why(JobId("blocked"), at(0)).text, "It waits for render-1.");
  scheduler_.hold(JobId("held"), false);
  EXPECT_THAT(started(), ElementsAre("held"));
  scheduler_.unblock(JobId("blocked"));
  scheduler_.remove_job(JobId("free"));
  EXPECT_THAT(started(), ElementsAre("blocked"));
}

// ---- Placement
// -----------------------------------------------------------------------------------

TEST_F(Rules, AGangStaysInOneRackWhereItFits) {
  for (const char* id : {"a1", "b1", "c1", "a2", "b2", "c2"}) {
    Node made = node(id, std::string(id) == "a1" ? 4 : 2);
    made.labels = {"rack=" + std::string(1, id[0])};
    add(made);
  }
  submit(job("tight", 1, 3, 3));
  EXPECT_THAT(text_of(decide().start), ElementsAre(HasSubstr("worker-2@a1")));
  submit(job("two", 2, 3, 3));
  const auto placed = text_of(decide().start);
  ASSERT_EQ(placed.size(), 1U);
  EXPECT_THAT(placed[0], HasSubstr("@b1"));
  EXPECT_THAT(placed[0], HasSubstr("@b2"));
  EXPECT_THAT(placed[0], testing::Not(HasSubstr("@c")));
}

TEST_F(Rules, WorkersSpreadOnRequest) {
  for (const char* id : {"a", "b", "c"}) add(node(id, 8));
  JobRequest wide = job("j", 1, 3, 3);
  wide.schedule.place = Spread::spread;
  submit(wide);
  const auto placed = text_of(decide().start);
  ASSERT_EQ(placed.size(), 1U);
  for (const char* on : {"@a", "@b", "@c"}) EXPECT_THAT(placed[0], HasSubstr(on));
}

TEST_F(Rules, LabelsTaintsAndDrainingNodes) {
  Node fast = node("fast", 8);
  fast.labels = {"gpu=h100"};
  Node tainted = node("tainted", 8);
  tainted.labels = {"gpu=h100"};
  tainted.taints = {"sick: GPU 3 fell off the bus"};
  Node leaving = node("leaving", 8);
  leaving.draining = true;
  for (const Node& one : {fast, tainted, leaving}) add(one);
  JobRequest picky = job("picky", 1, 6, 6);
  picky.schedule.nodes = {"gpu=h100"};
  submit(picky);
  JobRequest brave = job("brave", 2, 6, 6);
  brave.schedule.tolerates = {"sick"};
  submit(brave);
  JobRequest lost = job("lost", 3, 1, 1);
  lost.schedule.nodes = {"gpu=b200"};
  submit(lost);
  const auto placed = text_of(decide().start);
  ASSERT_EQ(placed.size(), 2U);
  EXPECT_THAT(placed[0], HasSubstr("picky: coordinator@fast"));
  EXPECT_THAT(placed[1], HasSubstr("brave: coordinator@tainted"));
  EXPECT_EQ(reason("lost"), PendingReason::no_matching_node);
}

// ---- Backfill
// ------------------------------------------------------------------------------------

constexpr const char* kBackfill = "backfill: {depth: 10}\npreemption: off\nqueues: {default: }";

TEST_F(Rules, ShortJobsStartInTheGapBeforeTheReservation) {
  use(kBackfill);
  add(node("n", 4));
  submit(lasting(60, job("running", 1, 2, 2)));
  (void)decide();
  submit(job("big", 2, 3, 3));
  submit(lasting(30, job("short", 3, 1, 1)));
  submit(lasting(90, job("long", 4, 1, 1)));
  submit(job("unknown", 5, 1, 1));
  const Decisions decisions = decide(10);
  ASSERT_EQ(decisions.start.size(), 1U);
  EXPECT_EQ(decisions.start[0].job, JobId("short"));
  EXPECT_TRUE(decisions.start[0].backfill);
  ASSERT_TRUE(scheduler_.reservation().has_value());
  EXPECT_EQ(scheduler_.reservation()->job, JobId("big"));
  EXPECT_EQ(scheduler_.reservation()->start, at(60));
  EXPECT_EQ(scheduler_.why(JobId("big"), at(10)).estimated_start, at(60));
  EXPECT_EQ(reason("long", 10), PendingReason::behind_queue);
  scheduler_.remove_job(JobId("short"));
  scheduler_.remove_job(JobId("running"));
  EXPECT_THAT(started(50), Contains("big"));
}

TEST_F(Rules, JobsOfUnknownLengthOnlyUseRoomThatTheReservationLeaves) {
  use(kBackfill);
  add(node("a", 4));
  add(node("b", 1.5));
  submit(lasting(60, job("running", 1, 2, 2)));
  EXPECT_EQ(text_of(decide().start).front(), "running: coordinator@a worker-0@a worker-1@a");
  submit(job("big", 2, 1, 1, {3500, 0, kGiB}));
  submit(job("unknown", 3, 1, 1));
  submit(job("another", 4, 1, 1));
  EXPECT_EQ(text_of(decide().start), std::vector<std::string>{"unknown: coordinator@b worker-0@b"});
  EXPECT_EQ(reason("another"), PendingReason::behind_queue);
}

TEST_F(Rules, AnEstimateThatWasWrongMovesTheReservation) {
  use(kBackfill);
  add(node("n", 4));
  submit(lasting(60, job("running", 1, 2, 2)));
  submit(job("big", 2, 3, 3));
  (void)decide();
  EXPECT_EQ(scheduler_.reservation()->start, at(60));
  EXPECT_EQ(scheduler_.next_wake(at(0)), at(5.0 / 60));  // another look for room
  (void)decide(61);
  ASSERT_TRUE(scheduler_.reservation().has_value());
  EXPECT_FALSE(scheduler_.reservation()->start.has_value()) << "nobody knows any more";
}

// ---- Growth, shrinking, preemption
// ----------------------------------------------------------------

TEST_F(Rules, WorkersBeyondTheMinimumGoWhenAnotherJobWaits) {
  add(node("n", 4.2));
  submit(job("elastic", 1, 1, 4));
  EXPECT_EQ(placed_now(scheduler_).size(), 2U);
  submit(job("next", 2, 2, 2));
  const Decisions decisions = decide(1);
  ASSERT_EQ(decisions.shrink.size(), 1U);
  EXPECT_EQ(decisions.shrink[0].job, JobId("elastic"));
  EXPECT_EQ(decisions.shrink[0].for_job, JobId("next"));
  EXPECT_THAT(decisions.shrink[0].roles, testing::UnorderedElementsAre("worker-2", "worker-3"));
  EXPECT_EQ(reason("next", 1), PendingReason::room_is_coming);
  EXPECT_TRUE(decide(1.5).empty()) << "it asks once";
  scheduler_.release_role(JobId("elastic"), "worker-3");
  EXPECT_THAT(started(2), IsEmpty());
  scheduler_.release_role(JobId("elastic"), "worker-2");
  EXPECT_THAT(started(3), ElementsAre("next"));
}

constexpr const char* kPreempting =
    "preemption: {min_runtime: 10m}\nqueues: {a: {guaranteed: {cpus: 3.3}}, b: }";

TEST_F(Rules, AHigherPriorityPreemptsTheCheapestGangOfItsQueue) {
  use("preemption: {min_runtime: 10m}\nqueues: {default: }");
  add(node("n", 3.3));
  submit(job("young", 1, 1, 1));
  submit(job("saved", 2, 1, 1));
  JobRequest never = job("never", 3, 1, 1);
  never.schedule.preemption = Preemption::never;
  submit(never);
  EXPECT_EQ(started().size(), 3U);
  scheduler_.checkpointed(JobId("saved"), at(19));
  submit(job("urgent", 4, 1, 1, {1000, 0, kGiB}, Priority::high));
  EXPECT_TRUE(decide(5).preempt.empty()) << "the minimum run time";
  EXPECT_EQ(scheduler_.next_wake(at(5)), at(10));
  scheduler_.checkpointed(JobId("saved"), at(9));
  const Decisions decisions = decide(20);
  ASSERT_EQ(decisions.preempt.size(), 1U);
  EXPECT_EQ(decisions.preempt[0].victim, JobId("saved"));
  EXPECT_EQ(decisions.preempt[0].for_job, JobId("urgent"));
  EXPECT_THAT(decisions.preempt[0].why, HasSubstr("priority high"));
  EXPECT_TRUE(decide(21).empty()) << "its room is coming";
  ASSERT_TRUE(scheduler_.requeue(job("saved", 2, 1, 1)));
  EXPECT_THAT(started(22), ElementsAre("urgent"));
  EXPECT_EQ(reason("saved", 22), PendingReason::not_enough_cpus);
}

TEST_F(Rules, NobodyIsPreemptedForAJobThatWouldNotFitAfterwards) {
  use("preemption: {min_runtime: 0s}\nqueues: {default: }");
  add(node("n", 3.3));
  JobRequest never = job("never", 1, 1, 1);
  never.schedule.preemption = Preemption::never;
  submit(never);
  submit(job("low", 2, 1, 1, {1000, 0, kGiB}, Priority::low));
  EXPECT_EQ(started().size(), 2U);
  submit(job("urgent", 3, 3, 3, {1000, 0, kGiB}, Priority::high));
  EXPECT_TRUE(decide(60).empty());
}

TEST_F(Rules, AGuaranteeIsReclaimedFromBorrowersAndNoMoreThanThat) {
  use(kPreempting);
  add(node("n", 3.3));
  for (std::uint64_t i = 0; i < 3; ++i) submit(in("b", job("b" + std::to_string(i), i, 1, 1)));
  EXPECT_EQ(started().size(), 3U);
  submit(in("a", job("a0", 9, 1, 1)));
  const Decisions decisions = decide(20);
  ASSERT_EQ(decisions.preempt.size(), 1U);
  EXPECT_THAT(decisions.preempt[0].why, HasSubstr("within the guarantee of queue a"));
  submit(in("a", job("a1", 10, 4, 4)));
  EXPECT_TRUE(decide(21).preempt.empty()) << "that one would borrow";
}

TEST_F(Rules, JobsThatAreNeverPreemptedDoNotBorrow) {
  use(kPreempting);
  add(node("n", 20));
  for (const char* id : {"a0", "a1", "a2", "a3", "b0"}) {
    JobRequest request = job(id, 1, 1, 1);
    request.schedule.preemption = Preemption::never;
    submit(in(std::string(1, id[0]), request));
  }
  EXPECT_THAT(started(), ElementsAre("a0", "a1", "a2"));
  EXPECT_EQ(reason("a3"), PendingReason::queue_limit);
  EXPECT_EQ(reason("b0"), PendingReason::larger_than_quota) << "nothing is guaranteed there";
}

// ---- Time
// ----------------------------------------------------------------------------------------

TEST_F(Rules, AJobOverItsTimeLimitIsToldOnce) {
  add(node("n", 4));
  JobRequest limited = job("j", 1, 1, 1);
  limited.schedule.time_limit_seconds = 3600;
  limited.ran = std::chrono::minutes(20);
  submit(limited);
  EXPECT_THAT(started(), ElementsAre("j"));
  EXPECT_EQ(scheduler_.next_wake(at(0)), at(40));
  EXPECT_THAT(decide(39).expired, IsEmpty());
  EXPECT_THAT(decide(40).expired, ElementsAre(JobId("j")));
  EXPECT_THAT(decide(41).expired, IsEmpty());
}

TEST_F(Rules, PastTheBoundAJobGoesBeforeHigherPriorities) {
  use("starvation: 1h\npreemption: off\nqueues: {default: }");
  add(node("n", 1.1));
  submit(job("running", 1, 1, 1, {1000, 0, kGiB}, Priority::high));
  submit(job("patient", 2, 1, 1, {1000, 0, kGiB}, Priority::low));
  EXPECT_THAT(started(), ElementsAre("running"));
  submit(job("pushy", 3, 1, 1, {1000, 0, kGiB}, Priority::critical));
  (void)decide(30);
  EXPECT_EQ(scheduler_.reservation()->job, JobId("pushy"));
  (void)decide(61);
  scheduler_.remove_job(JobId("running"));
  EXPECT_THAT(started(62), ElementsAre("patient"));
}

// ---- What it tells ------------------------------------------------------------------------------

TEST_F(Rules, ExplainsTheArithmetic) {
  use("queues: {a: {weight: 3, guaranteed: {cpus: 2}}, b: }");
  add(node("n", 4));
  submit(in("b", lasting(60, job("b0", 1, 3, 3))));
  (void)decide();
  submit(in("a", job("a0", 2, 1, 1)));
  (void)decide();
  const auto lines = scheduler_.explain(JobId("a0"), at(0));
  ASSERT_TRUE(lines);
  EXPECT_THAT(*lines, Contains(HasSubstr("its minimum is 2 roles, together 1.1 CPUs")));
  EXPECT_THAT(*lines, Contains(HasSubstr("queue a: uses 0 CPUs")));
  EXPECT_THAT(*lines, Contains(HasSubstr("guaranteed 2 CPUs")));
  EXPECT_THAT(*lines, Contains(HasSubstr("node n: 0.9 CPUs")));
  EXPECT_THAT(*lines, Contains(HasSubstr("the reservation is its own: 1.1 CPUs")));
  EXPECT_EQ(scheduler_.explain(JobId("nobody"), at(0)).error().code, Errc::not_found);
  const auto queues = scheduler_.queues();
  ASSERT_EQ(queues.size(), 2U);
  EXPECT_EQ(queues[0].pending, 1U);
  EXPECT_NEAR(queues[0].fair_share, 0.75, 1e-9);
  EXPECT_EQ(queues[1].running, 1U);
  EXPECT_NEAR(queues[1].share, 3.1 / 4, 1e-9);
  EXPECT_EQ(queues[1].borrowed.cpu_millis, 3100);
}

}  // namespace
}  // namespace crabcast::scheduler
