#include "actors/control/replicator.h"

#include "actors/control/replicator_state.h"
#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr auto kTick = std::chrono::milliseconds(250);

}  // namespace

void ReplicatorState::init() {
  replication.emplace(options.job, options.checkpoint, options.safe);
  replication->on_stored(newest_here());
  tell();
}

// Of this history: what lies beyond the ledger is void.
std::uint64_t ReplicatorState::newest_here() const {
  const auto last = options.store->last_commit();
  const auto ids = options.store->checkpoint_ids();
  if (!last || !ids || !*last) return 0;
  for (auto id = ids->rbegin(); id != ids->rend(); ++id)
    if (id->value() <= (*last)->step()) return id->value();
  return 0;
}

void ReplicatorState::nodes(const pb::ReplicaNodes& nodes) {
  std::set<std::string> names;
  for (const auto& node : nodes.nodes()) {
    names.insert(node.node());
    auto& peer = peers[node.node()];
    if (peer.endpoint == node.bulk_endpoint()) continue;
    peer.endpoint = node.bulk_endpoint();
    if (peer.work && !peer.handle) give_up(node.node());  // it waits for the former one
  }
  replication->on_nodes(names);
  pump();
}

void ReplicatorState::connected(const Connected& result) {
  for (auto& [node, peer] : peers) {
    if (peer.endpoint != result.endpoint || peer.handle || !peer.work) continue;
    if (!result.peer->has_value()) return failed(node, result.peer->error());
    peer.handle = options.bulk->proxy((*result.peer)->process, "replicas");
    self->monitor(peer.handle);
    return open(node);
  }
}

void ReplicatorState::down(const caf::actor_addr& who) {
  for (auto& [node, peer] : peers) {
    if (!peer.handle || peer.handle.address() != who) continue;
    peer.handle = nullptr;
    peer.open = false;
    if (peer.work) failed(node, {Errc::unavailable, "the connection to node " + node + " broke"});
    return;
  }
}

void ReplicatorState::voided(std::uint64_t after) {
  replication->on_voided(after, newest_here());
  for (auto& [node, peer] : peers)
    if (peer.work && peer.work->checkpoint > after) give_up(node);
  tell();
  pump();
}

void ReplicatorState::pump() {
  for (const auto& copy : replication->due(self->clock().now())) begin(copy.node, copy.checkpoint);
  tell();
  if (!replication->idle()) return;
  for (auto& promise : std::exchange(waiting, {})) promise.deliver(caf::unit);
}

void ReplicatorState::tell() {
  auto in_use = replication->in_use();
  const auto safe = replication->safe();
  if (safe == told_safe && in_use == told_in_use) return;
  told_safe = safe;
  told_in_use = in_use;
  caf::anon_send(job, ReplicationNews{safe, replication->holders(safe), std::move(in_use)});
}

namespace {

caf::behavior replicator(caf::stateful_actor<ReplicatorState>* self,
                         const ReplicatorOptions& options, const caf::actor& job) {
  auto& state = self->state;
  state.options = options;
  state.job = job;
  options.bulk->publish("replicator", caf::actor_cast<caf::actor>(self));
  self->set_down_handler([&state](const caf::down_msg& down) { state.down(down.source); });
  state.init();
  self->delayed_send(self, kTick, tick_atom::value);
  return {
      [&state](const NodesForReplicas& message) { state.nodes(*message.nodes); },
      [&state](const CheckpointStored& stored) {
        state.replication->on_stored(stored.id);
        state.pump();
      },
      [&state](const DropCheckpoints& drop) { state.voided(drop.after); },
      [&state](const Connected& result) { state.connected(result); },
      [self, &state](LastCopies) {
        auto promise = self->make_response_promise();
        state.waiting.push_back(promise);
        state.pump();
        return promise;
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, kTick, tick_atom::value);
        state.pump();
      },
      [](const DeliveryPtr&) {},  // nobody has anything to tell it
  };
}

}  // namespace

caf::actor spawn_replicator(caf::actor_system& system, const ReplicatorOptions& options,
                            const caf::actor& job) {
  return system.spawn<caf::detached>(replicator, options, job);
}

}  // namespace crabcast::actors
