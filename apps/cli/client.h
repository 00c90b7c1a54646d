// A client of the controller: asks, and waits for the answer. One thread.
#pragma once

#include <memory>
#include <string>

#include "apps/cli/verbs.h"
#include "cluster/transport.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::apps {

// Who asks, for the records: the user of this process.
std::string user_name();
// Makes a submit that is tried again one job.
std::string random_client_key();

class ControllerClient {
 public:
  // common.controller, else the endpoint that a running controller left in the state folder.
  // not_found: no controller runs here (says how to start one).
  static Result<std::unique_ptr<ControllerClient>> connect(const Common& common);
  virtual ~ControllerClient() = default;
  // A Failure becomes an error.
  virtual Result<pb::Envelope> ask(const google::protobuf::Message& body,
                                   Duration timeout = std::chrono::seconds(10)) = 0;
};

}  // namespace crabcast::apps
