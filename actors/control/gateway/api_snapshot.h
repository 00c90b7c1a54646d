// The list of all jobs, which is long in a cluster with history, asked for once for many readers.
#pragma once

#include "actors/control/gateway/api.h"

namespace crabcast::gateway {

struct Api::Snapshot {
  std::mutex asking;  // one at a time asks for the list; others wait for it
  TimePoint at;
  std::shared_ptr<const pb::JobList> all;
};

}  // namespace crabcast::gateway
