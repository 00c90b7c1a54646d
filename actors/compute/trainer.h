// The training loop of a worker: one generation after another, on a thread of its own.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <memory>

#include "actors/compute/batch_client.h"
#include "actors/compute/member.h"
#include "actors/compute/state_copy.h"
#include "actors/compute/state_transfer.h"
#include "actors/compute/step_control.h"
#include "cluster/collective.h"
#include "model/session.h"

namespace crabcast::actors {

// Batches are asked for so many steps before they are used, where the budget allows it.
inline constexpr std::uint64_t kStepsAhead = 4;

using GenerationPtr = std::shared_ptr<const pb::Generation>;
using SnapshotPtr = std::shared_ptr<const StateSnapshot>;

// To the trainer: save the state that it holds, which is the one after `step`.
struct SaveNow {
  std::uint64_t id = 0;
};
// From the trainer to the worker actor: a message for the coordinator.
struct ForCoordinator {
  OutboundPtr message;
};
// From the trainer to the saver, which streams to the store while training goes on.
struct SaveSnapshot {
  SnapshotPtr snapshot;
  std::uint64_t id = 0;
};
// From the trainer to the peer actor, which serves it to joiners; null: all have what they need.
struct OfferState {
  SnapshotPtr snapshot;
  std::uint64_t generation = 0;
};

// Shared by the actors of one worker process.
struct WorkerParts {
  MemberProcess* process = nullptr;
  std::unique_ptr<model::Session> session;  // used by the trainer only
  model::SessionOptions session_options;
  std::unique_ptr<cluster::CollectiveHost> collective_host;
  std::unique_ptr<BatchClient> batches;
  StepControl control;
  StateCopy copy;  // what came of a peer's state; used by the trainer only
  caf::actor worker, saver, peer;
};

caf::actor spawn_trainer(caf::actor_system& system, const std::shared_ptr<WorkerParts>& parts);
caf::actor spawn_saver(caf::actor_system& system, const std::shared_ptr<WorkerParts>& parts);
caf::actor spawn_peer(caf::actor_system& system);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::GenerationPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::SaveNow)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ForCoordinator)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::SaveSnapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::OfferState)
