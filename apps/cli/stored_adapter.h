// The adapter of a job's checkpoint, taken out of its store for crabcast-compute, which cannot read
// stores.
#pragma once

#include <string>

#include "apps/cli/verbs.h"
#include "protocol/error.h"
#include "protocol/generate.pb.h"

namespace crabcast::apps {

// job:JOB, or the folder of a job or of its store, with @CHECKPOINT behind it or not.
bool is_stored_adapter(const std::string& name);
// Of such a name; without a checkpoint its newest. The tensors' bytes go to memory for the program
// that takes this one's place (shared_memory.h), and every chunk is checked on the way. not_found,
// corrupt; disk_full: there is no memory for them.
Result<pb::StoredAdapter> stored_adapter(const Common& common, const std::string& name);

}  // namespace crabcast::apps
