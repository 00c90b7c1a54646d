// The policy of a shared cluster from a file.
#pragma once

#include <string>

#include "protocol/error.h"
#include "scheduler/policy.h"

namespace crabcast::apps {

// Read and validated; "-" is stdin. invalid_spec lists every mistake as FILE:LINE:COLUMN: ...
Result<scheduler::ClusterPolicy> read_policy(const std::string& path);

}  // namespace crabcast::apps
