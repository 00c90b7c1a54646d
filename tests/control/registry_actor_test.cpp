// The actor that owns the controller's registry.
#include "actors/control/registry_actor.h"

#include <gmock/gmock.h>

#include <caf/scheduler/test_coordinator.hpp>

#include "tests/control/store_fixture.h"

namespace crabcast::actors {
namespace {

using testing::IsEmpty;

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

TEST_F(RegistryActorTest, ANodeThatItAnsweredIsStored) {
  pb::NodeRecord record;
  record.set_node("a");
  record.set_draining(true);
  ASSERT_TRUE(tell(actor_, PutNode{std::make_shared<const pb::NodeRecord>(record)}));
  const auto stored = registry_->nodes();
  ASSERT_TRUE(stored);
  ASSERT_EQ(stored->size(), 1U);
  EXPECT_TRUE(stored->front().draining());
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
