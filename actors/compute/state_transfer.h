// A worker's state on its way to the checkpoint store and back from it.
#pragma once

#include <caf/actor_system.hpp>
#include <functional>
#include <string>
#include <vector>

#include "actors/compute/member.h"
#include "model/session.h"

namespace crabcast::actors {

struct StateSnapshot {
  std::uint64_t step = 0;  // after this step's update
  std::uint64_t generation = 0;
  std::vector<model::NamedTensor> tensors;
};

// Streams the snapshot to the coordinator's store in chunks, a few in flight; hashes are
// taken from the snapshot's own memory. Blocks; durable when it returns without an error.
Status save_checkpoint(caf::actor_system& system, MemberProcess& process,
                       const StateSnapshot& snapshot, std::uint64_t id,
                       const std::string& base_hash);

// Reads a checkpoint from the coordinator's store; every chunk is checked. `wanted` chooses tensors
// by name. id 0 = the newest that verifies.
struct LoadedCheckpoint {
  pb::CheckpointManifest manifest;
  std::vector<model::NamedTensor> tensors;
};
Result<LoadedCheckpoint> load_checkpoint(caf::actor_system& system, MemberProcess& process,
                                         std::uint64_t id,
                                         const std::function<bool(const std::string&)>& wanted);

}  // namespace crabcast::actors
