// The gateway's one way to the controller: a request goes in, its answer comes out. Tests put a
// controller of their own behind it.
#pragma once

#include <caf/fwd.hpp>
#include <memory>

#include "protocol/clock.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::gateway {

using Answer = std::shared_ptr<const pb::Envelope>;

class Ask {
 public:
  virtual ~Ask() = default;
  // Sends `body`, one of Envelope's, and waits for the answer. A Failure becomes an error; timeout
  // when none came, unavailable when the controller is gone. From any thread.
  virtual Result<Answer> ask(const google::protobuf::Message& body, Duration timeout) = 0;
};

// Asks the controller actor of this process. `system` outlives the result.
std::unique_ptr<Ask> ask_actor(caf::actor_system& system, const caf::actor& controller);

}  // namespace crabcast::gateway
