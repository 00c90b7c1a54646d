// Keeps copies of the stores of jobs whose coordinators are on other nodes, and hands one over when
// its job goes on here (docs/protocol.md, "Replicas"). One for each agent, published as `replicas`
// on its bulk switchboard, on a thread of its own: it waits for the disk.
//
// A copy belongs to the last coordinator that opened it with the highest fence; what others send to
// it is refused. Whatever is answered with Done is durable.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/control/state_folder.h"
#include "actors/messages.h"

namespace crabcast::actors {

// To the agent: what the node holds now, of all jobs (held_stores.h). The first comes at the start.
struct StoresHeld {
  std::shared_ptr<const std::vector<pb::HeldReplica>> stores;
};
// To the agent, now and then: a coordinator with this fence is at work elsewhere.
struct FenceSeen {
  std::string job;
  std::uint64_t fence = 0;
};

// From the agent. The job's coordinator is to start here: nobody writes to its stores meanwhile.
struct RestoreStore {  // answered with StoreRestored or an error
  std::string job;
};
struct StoreRestored {
  std::optional<std::uint64_t> checkpoint;  // of the copy that became its store
};
// From the agent: no process that could write to the job's own store is left here.
struct SetOlderAside {
  std::string job;
};
// From the agent: the job's own store was written to.
struct LookAgain {
  std::string job;
};

caf::actor spawn_replica_store(caf::actor_system& system, const StateFolder& state,
                               const std::string& node, const caf::actor& agent);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StoresHeld)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::FenceSeen)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::RestoreStore)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StoreRestored)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::SetOlderAside)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::LookAgain)
