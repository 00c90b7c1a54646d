// Copies a job's newest checkpoint, and the ledger up to it, to the stores of other nodes
// (docs/protocol.md, "Replicas"). One for each coordinator, on a thread of its own: no step waits
// for it, and no failed copy harms the job.
//
// Operation: what Replication (replication.h) finds due is sent to the node's `replicas` actor,
// from the newest checkpoint on that both stores hold. A checkpoint that a newer one overtook is
// skipped. Memory: for each node kChunksUnderWay chunks, or one page of records.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "actors/switchboard.h"
#include "protocol/job_spec.h"
#include "storage/job_store.h"

namespace crabcast::actors {

struct ReplicatorOptions {
  std::string job;
  std::uint64_t fence = 0;
  std::string spec_yaml;
  CheckpointSpec checkpoint;
  std::uint64_t safe = 0;  // as an earlier coordinator knew
  std::shared_ptr<const storage::JobStore> store;
  Switchboard* bulk = nullptr;  // outlives the actor
};

// To the replicator, besides DropCheckpoints (store_actors.h) once the store has dropped them.
struct CheckpointStored {
  std::uint64_t id = 0;
};
struct NodesForReplicas {
  std::shared_ptr<const pb::ReplicaNodes> nodes;
};
struct LastCopies {};  // answered with nothing as soon as no copy is under way

// To the job actor.
struct ReplicationNews {
  std::uint64_t safe = 0;          // the newest checkpoint that a quorum holds
  std::vector<std::string> nodes;  // that hold it, besides this one
  std::set<std::uint64_t> in_use;  // retention must not take these
};
struct ReplicaTrouble {  // once for each cause
  std::string node;
  Error error;
};
struct Displaced {  // a later coordinator of the job is at work
  Error error;
};

// `job` hears of what happens.
caf::actor spawn_replicator(caf::actor_system& system, const ReplicatorOptions& options,
                            const caf::actor& job);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::CheckpointStored)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::NodesForReplicas)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::LastCopies)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ReplicationNews)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ReplicaTrouble)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::Displaced)
