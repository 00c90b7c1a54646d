#include "actors/control/replica_store.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <map>
#include <set>

#include "actors/control/held_stores.h"
#include "actors/control/incoming_checkpoints.h"
#include "protocol/fault_points.h"
#include "storage/fence.h"
#include "storage/stored_spec.h"

namespace crabcast::actors {
namespace {

using storage::JobStore;
using storage::Sync;

// A copy that a coordinator writes to.
struct Copy {
  std::string job, spec_yaml;
  std::uint64_t fence = 0;
  caf::actor_addr sender;
  std::shared_ptr<JobStore> store;
  IncomingCheckpoints incoming;
};

// Sets the store up, too, when it is new.
Status open_copy(Copy& copy, const std::filesystem::path& folder) {
  auto store = JobStore::open(folder);
  if (!store) return fail(store.error());
  copy.store = std::move(*store);
  CRABCAST_TRY(storage::take_fence(*copy.store, copy.fence));
  CRABCAST_TRY(copy.store->put_value("job", copy.job, Sync::no));
  return storage::put_spec(*copy.store, copy.spec_yaml);
}

Result<pb::ReplicaOpened> contents(const JobStore& store) {
  pb::ReplicaOpened opened;
  const auto last = store.last_commit();
  if (!last) return fail(last.error());
  if (*last) opened.set_last_step((*last)->step());
  const auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  const auto damaged = store.damages();
  if (!damaged) return fail(damaged.error());
  for (const CheckpointId id : *ids) {
    auto manifest = store.manifest(id);
    // One that is damaged counts as not there: it is sent again.
    if (manifest && !damaged->contains(id)) *opened.add_checkpoints() = std::move(*manifest);
  }
  return opened;
}

// In order; the last one's write makes all of them durable.
Status put_records(JobStore& store, const pb::ReplicaRecords& records) {
  for (int i = 0; i < records.records_size(); ++i) {
    const auto& record = records.records(i);
    const Sync sync = i + 1 == records.records_size() ? Sync::yes : Sync::no;
    if (record.has_commit()) CRABCAST_TRY(store.append_commit(record.commit(), sync));
    if (record.has_quarantined())
      CRABCAST_TRY(store.put_quarantine({&record.quarantined(), 1}, sync));
    if (record.has_evaluation()) CRABCAST_TRY(store.put_evaluation(record.evaluation(), sync));
  }
  return {};
}

Status retain(JobStore& store, const pb::ReplicaRetain& retain) {
  std::set<CheckpointId> kept;
  for (const auto id : retain.checkpoints()) kept.insert(CheckpointId{id});
  const auto removed = store.apply_retention({.last = 1, .best = 0}, kept);
  if (!removed) return fail(removed.error());
  return {};
}

struct ReplicasState {
  static inline const char* name = "replicas";
  StateFolder state;
  std::string node;
  caf::actor agent;
  std::map<std::string, Copy> copies;           // that are open, by job
  std::map<std::string, pb::HeldReplica> held;  // by job

  void open(const Delivery& request);
  Status check_fence(const pb::ReplicaOpen& body) const;
  void deliver(const Delivery& request);
  Status rewind(Copy& copy, std::uint64_t step);
  Status put_chunk(Copy& copy, const Delivery& request) const;
  Status seal(Copy& copy, const Delivery& request);
  Copy* copy_of(const caf::actor_addr& sender);
  void close_copies_of(const caf::actor_addr& sender);
  void look_again(const std::string& job);
  void tell_agent() const;
};

// The job's own store counts, too: its coordinator may have been here since.
Status ReplicasState::check_fence(const pb::ReplicaOpen& body) const {
  const auto stale = [&](std::uint64_t fence, const std::string& what) {
    return fail(Errc::stale_generation, "node " + node + " has " + what + " of " + body.job() +
                                            " with fence " + std::to_string(fence) +
                                            ", and this coordinator has " +
                                            std::to_string(body.fence()));
  };
  if (const auto known = copies.find(body.job());
      known != copies.end() && known->second.fence > body.fence())
    return stale(known->second.fence, "a copy of the store");
  const auto own = fence_of_own_store(state, body.job());
  if (!own) return fail(own.error());
  if (!*own || **own < body.fence()) return {};
  if (**own > body.fence()) return stale(**own, "the store");
  return fail(Errc::invalid_argument,
              "node " + node +
                  " has the job's own store in its state folder: a copy beside it "
                  "would be none. Nodes that share a state folder need checkpoint.replicas: 0");
}

void ReplicasState::open(const Delivery& request) {
  const auto& body = request.envelope->replica_open();
  if (body.job().empty() || body.job().find('/') != std::string::npos)
    return answer(request, Error{Errc::invalid_argument, "'" + body.job() + "' names no job"});
  if (const Status free = check_fence(body); !free) return answer(request, free.error());
  close_copies_of(request.sender.address());
  copies.erase(body.job());  // closes it for the sender before this one
  Copy copy;
  copy.job = body.job();
  copy.spec_yaml = body.spec_yaml();
  copy.fence = body.fence();
  copy.sender = request.sender.address();
  if (const Status opened = open_copy(copy, state.replica(copy.job)); !opened)
    return answer(request, opened.error().within("the copy on node " + node));
  const auto opened = contents(*copy.store);
  if (!opened) return answer(request, opened.error());
  answer(request, *opened);
  caf::anon_send(agent, FenceSeen{copy.job, copy.fence});
  const std::string job = copy.job;
  copies.insert_or_assign(job, std::move(copy));
}

void ReplicasState::deliver(const Delivery& request) {
  const auto& envelope = *request.envelope;
  if (envelope.has_replica_open()) return open(request);
  Copy* copy = copy_of(request.sender.address());
  if (!copy)
    return answer(request, Error{Errc::invalid_argument,
                                 "no copy is open for this sender: another coordinator of the job "
                                 "has opened it since, or nobody has"});
  Status done;
  switch (envelope.body_case()) {
    case pb::Envelope::kReplicaRewind:
      done = rewind(*copy, envelope.replica_rewind().step());
      break;
    case pb::Envelope::kReplicaRecords:
      done = put_records(*copy->store, envelope.replica_records());
      break;
    case pb::Envelope::kReplicaRetain:
      done = retain(*copy->store, envelope.replica_retain());
      break;
    case pb::Envelope::kCheckpointBegin:
      done = copy->incoming.begin(*copy->store, envelope.checkpoint_begin().id(), copy->sender);
      break;
    case pb::Envelope::kCheckpointChunk:
      done = put_chunk(*copy, request);
      break;
    case pb::Envelope::kCheckpointSeal:
      done = seal(*copy, request);
      break;
    case pb::Envelope::kCheckpointAbandon:
      copy->incoming.drop(envelope.checkpoint_abandon().id());
      break;
    default:
      done = fail(Errc::unsupported, "a node's copies take no such message");
  }
  if (done) return answer(request, pb::Done{});
  answer(request, done.error().within("the copy on node " + node));
  if (!copy->store) copies.erase(copy->job);  // it could not be opened anew
}

// Checkpoints go first: what the ledger has beyond them is done again.
Status ReplicasState::rewind(Copy& copy, std::uint64_t step) {
  const auto ids = copy.store->checkpoint_ids();
  if (!ids) return fail(ids.error());
  const auto last = copy.store->last_commit();
  if (!last) return fail(last.error());
  const auto is_void = [step](CheckpointId id) { return id.value() > step; };
  copy.incoming.drop_after(step);
  // Another coordinator's work, and nothing of it is the new one's: that is not ours to delete.
  if (*last && (*last)->fence() != copy.fence && !ids->empty() &&
      std::all_of(ids->begin(), ids->end(), is_void)) {
    copy.store.reset();
    CRABCAST_TRY(set_aside(state.replica(copy.job), (*last)->fence()));
    CRABCAST_TRY(open_copy(copy, state.replica(copy.job)));
  } else {
    CRABCAST_TRY(copy.store->drop_checkpoints_after(CheckpointId{step}));
    if (*last && (*last)->step() > step) CRABCAST_TRY(copy.store->rewind_ledger(Step{step}));
  }
  look_again(copy.job);
  return {};
}

Status ReplicasState::put_chunk(Copy& copy, const Delivery& request) const {
  const auto& chunk = request.envelope->checkpoint_chunk();
  CRABCAST_TRY(copy.incoming.check_sender(chunk.id(), copy.sender));
  const Status put = copy.incoming.put_chunk(chunk, request.frames);
  if (!put) copy.incoming.drop(chunk.id());
  return put;
}

Status ReplicasState::seal(Copy& copy, const Delivery& request) {
  const auto& manifest = request.envelope->checkpoint_seal().manifest();
  CRABCAST_TRY(copy.incoming.check_sender(manifest.id(), copy.sender));
  const auto last = copy.store->last_commit();
  if (!last) return fail(last.error());
  if (manifest.ledger_step() > (*last ? (*last)->step() : 0))
    return fail(Errc::invalid_argument,
                "checkpoint " + std::to_string(manifest.id()) + " comes before its ledger");
  Status sealed = fault_point("replica.seal");
  if (sealed) sealed = copy.incoming.commit(manifest);
  if (!sealed) {
    copy.incoming.drop(manifest.id());
    return sealed;
  }
  look_again(copy.job);
  caf::anon_send(agent, FenceSeen{copy.job, copy.fence});  // it may count now
  return {};
}

Copy* ReplicasState::copy_of(const caf::actor_addr& sender) {
  for (auto& [job, copy] : copies)
    if (copy.sender == sender) return &copy;
  return nullptr;
}

void ReplicasState::close_copies_of(const caf::actor_addr& sender) {
  std::erase_if(copies, [&](const auto& entry) { return entry.second.sender == sender; });
}

void ReplicasState::look_again(const std::string& job) {
  held.erase(job);
  if (auto found = held_store(state, job)) held[job] = std::move(*found);
  tell_agent();
}

void ReplicasState::tell_agent() const {
  std::vector<pb::HeldReplica> all;
  for (const auto& [job, store] : held) all.push_back(store);
  caf::anon_send(agent,
                 StoresHeld{std::make_shared<const std::vector<pb::HeldReplica>>(std::move(all))});
}

using start_atom = caf::atom_constant<caf::atom("start")>;

caf::behavior replicas(caf::stateful_actor<ReplicasState>* self, const StateFolder& folder,
                       const std::string& node, const caf::actor& agent) {
  auto& state = self->state;
  state.state = folder;
  state.node = node;
  state.agent = agent;
  self->set_down_handler(
      [&state](const caf::down_msg& down) { state.close_copies_of(down.source); });
  self->send(self, start_atom::value);  // on the actor's own thread
  return {
      [&state](start_atom) {
        for (auto& store : held_stores(state.state)) state.held[store.job()] = std::move(store);
        state.tell_agent();
      },
      [self, &state](const DeliveryPtr& request) {
        if (request->envelope->has_replica_open()) self->monitor(request->sender);
        state.deliver(*request);
      },
      [&state](const RestoreStore& order) -> caf::result<StoreRestored> {
        state.copies.erase(order.job);
        auto restored = restore_store(state.state, order.job, state.node);
        state.look_again(order.job);
        if (!restored) return to_caf(restored.error());
        return StoreRestored{*restored};
      },
      [&state](const SetOlderAside& order) {
        if (const auto done = set_older_aside(state.state, order.job); !done)
          spdlog::error("the older store of {} was not set aside: {}", order.job,
                        done.error().message);
      },
      [&state](const LookAgain& order) { state.look_again(order.job); },
  };
}

}  // namespace

caf::actor spawn_replica_store(caf::actor_system& system, const StateFolder& state,
                               const std::string& node, const caf::actor& agent) {
  return system.spawn<caf::detached>(replicas, state, node, agent);
}

}  // namespace crabcast::actors
