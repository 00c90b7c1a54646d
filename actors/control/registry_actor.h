// The actor that owns the controller's registry, on a thread of its own. Its messages are answered
// with nothing or an error, unless said otherwise. Inside one process only.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <memory>
#include <string>
#include <vector>

#include "protocol/ids.h"
#include "protocol/records.pb.h"
#include "storage/registry.h"

namespace crabcast::actors {

struct PutJob {  // durable before it is answered
  std::shared_ptr<const pb::JobRecord> record;
};
struct PutNode {
  std::shared_ptr<const pb::NodeRecord> record;
};
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

caf::actor spawn_registry(caf::actor_system& system, std::shared_ptr<storage::Registry> registry);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutJob)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutNode)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutEvents)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ReadEvents)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::EventsRead)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PutSeries)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::ReadSeries)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::SeriesRead)
