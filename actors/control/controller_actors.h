// What the controller, the scheduler actor and the registry actor say to each other. Inside one
// process only.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "protocol/records.pb.h"
#include "scheduler/scheduler.h"
#include "storage/registry.h"

namespace crabcast::actors {

// To the scheduler actor; it sends Decisions back to the controller after each.
struct NodeJoined {
  scheduler::Node node;
};
struct NodeLeft {
  NodeId node;
};
struct JobQueued {
  scheduler::JobRequest request;
};
struct JobAdopted {  // runs already
  scheduler::JobRequest request;
  scheduler::Placement placement;
};
struct JobGone {
  JobId job;
};
struct JobResized {  // answered with the roles that are to leave, or an error
  scheduler::JobRequest request;
};
struct JobHeldTo {  // the waiting job's coordinator goes to one of these nodes; empty: to any
  JobId job;
  std::set<NodeId> nodes;
};
struct RoleGone {
  JobId job;
  std::string role;
};
struct Decisions {
  std::vector<scheduler::Placement> placements;
  std::vector<scheduler::Pending> pending;
};

// To the registry actor; answered with nothing or an error, unless said otherwise.
struct PutJob {
  std::shared_ptr<const pb::JobRecord> record;
};
struct NewSequence {};  // answered with the number
struct PutEvents {
  std::shared_ptr<const std::vector<pb::Event>> events;
};
struct ReadEvents {  // answered with EventsRead
  std::string job;   // empty: all
  std::uint64_t after_seq = 0;
  std::size_t limit = 0;
};
struct EventsRead {
  std::shared_ptr<const std::vector<pb::Event>> events;
};
struct PutSeries {
  std::shared_ptr<const pb::JobSeries> series;
};
struct ReadSeries {  // answered with SeriesRead
  JobId job;
};
struct SeriesRead {
  std::shared_ptr<const pb::JobSeries> series;  // empty when there is none
};

caf::actor spawn_scheduler(caf::actor_system& system, const caf::actor& controller);
caf::actor spawn_registry(caf::actor_system& system, std::shared_ptr<storage::Registry> registry);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::NodeJoined)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::NodeLeft)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::JobQueued)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::JobAdopted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::JobGone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::JobResized)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::JobHeldTo)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::RoleGone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::Decisions)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutJob)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::NewSequence)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutEvents)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ReadEvents)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::EventsRead)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutSeries)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ReadSeries)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::SeriesRead)
