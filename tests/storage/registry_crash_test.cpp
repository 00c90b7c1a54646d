// Power loss at every write of a life of the controller's registry, with all unsynced bytes
// forgotten: what was acknowledged is there, and no submission number is given away twice (J-1).
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "storage/open_with_env.h"
#include "tests/storage/fault_fs.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

constexpr int kMostOperations = 2000;

pb::JobRecord job(const std::string& id, std::uint64_t seq, pb::JobState state) {
  pb::JobRecord record;
  record.set_job(id);
  record.set_submit_seq(seq);
  record.set_client_key("key of " + id);
  record.set_state(state);
  return record;
}

// What the registry has acknowledged so far.
struct Acknowledged {
  std::map<std::string, pb::JobState> jobs;
  std::uint64_t sequence = 0;
  bool node = false;
  std::size_t synced_events = 0;
};

using Operation = std::function<Status(Registry&, Acknowledged&)>;

Operation submit(const std::string& id) {
  return [id](Registry& registry, Acknowledged& known) -> Status {
    auto seq = registry.next_submit_seq();
    if (!seq) return fail(seq.error());
    EXPECT_GT(*seq, known.sequence) << "a number is given away twice";
    known.sequence = *seq;
    CRABCAST_TRY(registry.put_job(job(id, *seq, pb::JOB_PENDING), Sync::yes));
    known.jobs[id] = pb::JOB_PENDING;
    return {};
  };
}

Operation become(const std::string& id, pb::JobState state) {
  return [id, state](Registry& registry, Acknowledged& known) -> Status {
    auto record = registry.job(JobId{id});
    if (!record) return fail(record.error());
    (*record)->set_state(state);
    CRABCAST_TRY(registry.put_job(**record, Sync::yes));
    known.jobs[id] = state;
    return {};
  };
}

Status note(Registry& registry, Acknowledged& known) {
  pb::Event event;
  event.set_kind("placed");
  auto seq = registry.append_event(event, Sync::yes);
  if (!seq) return fail(seq.error());
  known.synced_events = *seq;
  return {};
}

Status node_joins(Registry& registry, Acknowledged& known) {
  pb::NodeRecord node;
  node.set_node("node-a");
  CRABCAST_TRY(registry.put_node(node, Sync::yes));
  known.node = true;
  return {};
}

std::vector<Operation> history() {
  return {node_joins,    submit("a-1"),
          note,          become("a-1", pb::JOB_STARTING),
          submit("b-2"), become("a-1", pb::JOB_RUNNING),
          note,          become("b-2", pb::JOB_CANCELLED),
          submit("c-3"), become("a-1", pb::JOB_SUCCEEDED)};
}

TEST(RegistryCrash, NothingAcknowledgedIsMissing) {
  const TempFolder folder;
  int crash = 0;
  for (bool struck = true; struck && crash < kMostOperations; ++crash) {
    SCOPED_TRACE("power loss after operation " + std::to_string(crash));
    const auto path = folder / "registry";
    std::filesystem::remove_all(path);
    { auto made = must(Registry::open(path)); }
    Acknowledged known;
    {
      FaultDisk disk;
      auto registry = must(open_registry(path, disk.env.get()));
      disk.fs->arm(FaultFs::Fault::power_loss, crash);
      for (const auto& operation : history())
        if (!operation(*registry, known)) break;
      struck = disk.fs->struck();
      disk.fs->arm(FaultFs::Fault::power_loss, 0);
      registry.reset();
      disk.fs->forget_unsynced();
    }
    auto registry = must(Registry::open(path));
    for (const auto& [id, state] : known.jobs) {
      const auto record = must(registry->job(JobId{id}));
      ASSERT_TRUE(record.has_value()) << id;
      // The next state may have been on the disk before its acknowledgement.
      EXPECT_TRUE(record->state() == state || struck) << id;
      EXPECT_GE(record->state(), state) << id;
      EXPECT_EQ(must(registry->job_by_client_key("key of " + id)), JobId{id});
    }
    EXPECT_GE(must(registry->next_submit_seq()), known.sequence + 1);
    if (known.node) EXPECT_EQ(must(registry->nodes()).size(), 1U);
    EXPECT_GE(must(registry->events(0, 100)).size(), known.synced_events);
  }
  EXPECT_GT(crash, 10) << "the history writes at least so often";
  EXPECT_LT(crash, kMostOperations);
}

}  // namespace
}  // namespace crabcast::storage
