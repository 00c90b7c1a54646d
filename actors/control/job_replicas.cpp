// The job actor: copies of its store on other nodes, and what it does when a later coordinator of
// the job is at work.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <charconv>

#include "actors/control/held_stores.h"
#include "actors/control/job_state.h"
#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

// For agents to hear what is to be stopped.
constexpr auto kFarewellToAgents = std::chrono::seconds(1);

}  // namespace

void JobState::start_replicator() {
  if (options.spec.checkpoint.replicas == 0) return;
  ReplicatorOptions copies;
  copies.job = options.launch.job();
  copies.fence = options.launch.fence();
  copies.spec_yaml = options.launch.spec_yaml();
  copies.checkpoint = options.spec.checkpoint;
  copies.store = options.store;
  copies.bulk = options.bulk;
  // What cannot be read is found out again as soon as the copies are opened.
  if (const auto known = options.store->value(kReplicatedKey); known && *known)
    std::from_chars((*known)->data(), (*known)->data() + (*known)->size(), copies.safe);
  replication.safe = copies.safe;
  if (copies.safe > 0) replication.in_use = {copies.safe};
  replicator = spawn_replicator(self->system(), copies, caf::actor_cast<caf::actor>(self));
  self->link_to(replicator);
}

// The agent left a note in the store when it made it out of a copy.
void JobState::tell_restored() {
  const auto note = options.store->value(kRestoredKey);
  if (!note || !*note || (*note)->empty()) return;
  pb::Event event;
  event.set_kind("restored");
  event.set_severity(pb::SEVERITY_WARNING);
  event.set_subject(options.launch.job());
  event.set_message(**note);
  act(RecordEvent{event});
  self->request(ledger, kStoreTimeout, StoreValue{kRestoredKey, ""})
      .then([] {},
            [](const caf::error& error) {
              spdlog::warn("that the store was restored is told again: {}",
                           from_caf(error).message);
            });
}

void JobState::drop_copies(std::uint64_t after) {
  if (replicator) self->send(replicator, DropCheckpoints{after});
}

void JobState::replication_news(const ReplicationNews& news) {
  const bool advanced = news.safe > replication.safe;
  const bool changed = news.safe != replication.safe;
  replication = news;
  if (!changed) return;
  self->request(ledger, kStoreTimeout, StoreValue{kReplicatedKey, std::to_string(news.safe)})
      .then([] {},
            [](const caf::error& error) {
              spdlog::warn("which checkpoint is replicated was not stored: {}",
                           from_caf(error).message);
            });
  if (!advanced) return;
  std::string nodes = options.launch.slot().node();
  for (const auto& node : news.nodes) nodes += ", " + node;
  pb::Event event;
  event.set_kind("checkpoint_replicated");
  event.set_subject(std::to_string(news.safe));
  event.set_message("stores that hold it: " + nodes);
  act(RecordEvent{event});
}

void JobState::replica_trouble(const ReplicaTrouble& trouble) {
  pb::Event event;
  event.set_kind("replica_failed");
  event.set_severity(pb::SEVERITY_WARNING);
  event.set_subject(trouble.node);
  event.set_message("no copy there for now: " + trouble.error.message);
  act(RecordEvent{event});
}

// The history goes on elsewhere: whatever is done here is void. Members that the later coordinator
// did not displace yet are stopped.
bool JobState::displaced(const Error& error) {
  if (error.code != Errc::stale_generation) return false;
  if (displaced_by || over) return true;
  pb::Event event;
  event.set_kind("displaced");
  event.set_severity(pb::SEVERITY_ERROR);
  event.set_subject(options.launch.job());
  event.set_message("this coordinator ends, for it was replaced: " + error.message);
  act(RecordEvent{event});
  displaced_by = error;
  for (const auto& [node, agent] : agents)
    for (const auto& role : machine->roles_on(node))
      if (agent.handle) act(StopProcess{role, node});
  self->delayed_send(self, kFarewellToAgents, give_up_atom::value);
  return true;
}

pb::JobStatus JobState::status() const {
  auto status = machine->status(now(), unix_ms_now());
  status.set_replicated_checkpoint(replication.safe);
  return status;
}

}  // namespace crabcast::actors
