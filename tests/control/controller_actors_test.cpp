// The controller's helpers as actors: scheduler (in virtual time) and registry.
#include "actors/control/controller_actors.h"

#include <gmock/gmock.h>

#include <caf/scheduler/test_coordinator.hpp>

#include "tests/control/store_fixture.h"

namespace crabcast::actors {
namespace {

using testing::IsEmpty;

// ---- scheduler --------------------------------------------------------------------------------

class SchedulerActorTest : public testing::Test {
 protected:
  struct Config : caf::actor_system_config {
    Config() { set("scheduler.policy", caf::atom("testing")); }
  };
  SchedulerActorTest() {
    auto controller = system_.spawn(
        [](caf::event_based_actor*, std::vector<Decisions>* all) -> caf::behavior {
          return {[all](const Decisions& decisions) { all->push_back(decisions); }};
        },
        &decided_);
    controller_ = controller;
    scheduler_ = spawn_scheduler(system_, controller);
  }
  ~SchedulerActorTest() override {
    caf::anon_send_exit(scheduler_, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(controller_, caf::exit_reason::user_shutdown);
    steps().run();
  }

  caf::scheduler::test_coordinator& steps() {
    return dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler());
  }
  // Sends it and returns what was decided then.
  template <class Message>
  Decisions tell(const Message& message) {
    caf::anon_send(scheduler_, message);
    steps().run();
    return decided_.empty() ? Decisions{} : decided_.back();
  }
  static NodeJoined node(const std::string& name, std::int64_t cpus) {
    return {{NodeId{name}, {cpus * 1000, 0, 64LL << 30}, true}};
  }
  static scheduler::JobRequest request(const std::string& name, std::uint64_t seq) {
    JobSpec spec;
    spec.name = name;
    spec.resources.workers_max = 1;
    return scheduler::job_request(JobId{name}, spec, seq);
  }

  Config config_;
  caf::actor_system system_{config_};
  std::vector<Decisions> decided_;
  caf::actor scheduler_, controller_;
};

TEST_F(SchedulerActorTest, TellsTheControllerWhoRunsWhereAndWhoWaits) {
  auto decisions = tell(JobQueued{request("first", 1)});
  EXPECT_THAT(decisions.placements, IsEmpty());
  ASSERT_EQ(decisions.pending.size(), 1U);
  EXPECT_EQ(decisions.pending[0].reason, scheduler::PendingReason::no_nodes);

  decisions = tell(node("node-a", 3));
  ASSERT_EQ(decisions.placements.size(), 1U);
  EXPECT_EQ(decisions.placements[0].job, JobId{"first"});
  EXPECT_EQ(decisions.placements[0].roles[0].node, NodeId{"node-a"});
  EXPECT_THAT(decisions.pending, IsEmpty());

  decisions = tell(JobQueued{request("second", 2)});
  EXPECT_THAT(decisions.placements, IsEmpty());
  ASSERT_EQ(decisions.pending.size(), 1U);
  EXPECT_EQ(decisions.pending[0].reason, scheduler::PendingReason::not_enough_cpus);
  EXPECT_FALSE(decisions.pending[0].text.empty());

  decisions = tell(JobGone{JobId{"first"}});
  ASSERT_EQ(decisions.placements.size(), 1U);
  EXPECT_EQ(decisions.placements[0].job, JobId{"second"});
}

TEST_F(SchedulerActorTest, RefusesAJobThatIsThereAlready) {
  tell(JobQueued{request("first", 1)});
  const auto before = decided_.size();
  caf::scoped_actor self{system_};
  auto waiting = self->request(scheduler_, kPatience, JobQueued{request("first", 2)});
  steps().run();
  waiting.receive(
      [] { ADD_FAILURE() << "taken twice"; },
      [](const caf::error& error) { EXPECT_EQ(from_caf(error).code, Errc::already_exists); });
  EXPECT_EQ(decided_.size(), before);
}

TEST_F(SchedulerActorTest, PlacesARoleAgainWhenItsNodeIsGone) {
  tell(node("node-a", 3));
  tell(JobQueued{request("first", 1)});
  const auto decisions = tell(node("node-b", 3));
  EXPECT_THAT(decisions.placements, IsEmpty());
  tell(NodeLeft{NodeId{"node-a"}});
  const auto moved = tell(RoleGone{JobId{"first"}, "worker-0"});
  ASSERT_EQ(moved.placements.size(), 1U);
  ASSERT_EQ(moved.placements[0].roles.size(), 1U);
  EXPECT_EQ(moved.placements[0].roles[0].role, "worker-0");
  EXPECT_EQ(moved.placements[0].roles[0].node, NodeId{"node-b"});
}

TEST_F(SchedulerActorTest, AnAdoptedJobKeepsItsRoom) {
  const auto running = request("first", 1);
  scheduler::Placement placement{JobId{"first"}, {}};
  for (const auto& role : running.fixed)
    placement.roles.push_back({role.role, role.kind, NodeId{"node-a"}, role.need});
  for (const auto& role : running.workers)
    placement.roles.push_back({role.role, role.kind, NodeId{"node-a"}, role.need});
  tell(JobAdopted{running, placement});
  tell(node("node-a", 3));
  const auto decisions = tell(JobQueued{request("second", 2)});
  EXPECT_THAT(decisions.placements, IsEmpty());
  EXPECT_EQ(decisions.pending.size(), 1U);
}

// ---- registry ---------------------------------------------------------------------------------

std::shared_ptr<const std::vector<pb::Event>> some_events(int count, const std::string& job) {
  auto events = std::make_shared<std::vector<pb::Event>>();
  for (int i = 0; i < count; ++i) {
    pb::Event event;
    event.set_job(job);
    event.set_kind("kind-" + std::to_string(i));
    events->push_back(std::move(event));
  }
  return events;
}

class RegistryActorTest : public StoreActorTest {
 protected:
  RegistryActorTest() {
    registry_ = storage::Registry::open(folder_ / "registry").value();
    actor_ = keep(spawn_registry(system_, registry_));
  }
  std::vector<pb::Event> events(const ReadEvents& query) {
    auto read = ask<EventsRead>(actor_, query);
    EXPECT_TRUE(read);
    return read ? *read->events : std::vector<pb::Event>{};
  }
  std::shared_ptr<storage::Registry> registry_;
  caf::actor actor_;
};

TEST_F(RegistryActorTest, AJobThatItAnsweredIsStored) {
  pb::JobRecord record;
  record.set_job("job-1");
  record.set_state(pb::JOB_PENDING);
  ASSERT_TRUE(tell(actor_, PutJob{std::make_shared<const pb::JobRecord>(record)}));
  auto stored = registry_->job(JobId{"job-1"});
  ASSERT_TRUE(stored && *stored);
  EXPECT_EQ((*stored)->state(), pb::JOB_PENDING);
}

TEST_F(RegistryActorTest, SequenceNumbersGrow) {
  const auto first = ask<std::uint64_t>(actor_, NewSequence{});
  const auto second = ask<std::uint64_t>(actor_, NewSequence{});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*second, *first + 1);
}

TEST_F(RegistryActorTest, EventsOfOneJobAreFoundAmongThoseOfManyOthers) {
  ASSERT_TRUE(tell(actor_, PutEvents{some_events(3, "mine")}));
  ASSERT_TRUE(tell(actor_, PutEvents{some_events(2500, "other")}));  // more than two pages
  ASSERT_TRUE(tell(actor_, PutEvents{some_events(2, "mine")}));
  const auto mine = events({"mine", 0, 100});
  ASSERT_EQ(mine.size(), 5U);
  EXPECT_EQ(mine[3].kind(), "kind-0");
  EXPECT_EQ(mine[4].seq(), 2505U);
  EXPECT_EQ(events({"mine", mine[3].seq(), 100}).size(), 1U) << "only what came after";
  EXPECT_EQ(events({"mine", 0, 4}).size(), 4U);
  EXPECT_EQ(events({"", 0, 2000}).size(), 2000U);
  EXPECT_THAT(events({"nobody", 0, 10}), IsEmpty());
}

}  // namespace
}  // namespace crabcast::actors
