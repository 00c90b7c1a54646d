// The spec texts in a job's store: the one that it runs with, and each that a checkpoint was made
// with, by its hash.
#pragma once

#include <optional>
#include <string>

#include "protocol/error.h"
#include "storage/job_store.h"

namespace crabcast::storage {

// Keeps the text for the checkpoints that name it. invalid_spec.
Status keep_spec(JobStore& store, const std::string& yaml, Sync sync);
// From now on checkpoints are made with this spec. Durable. invalid_spec.
Status put_spec(JobStore& store, const std::string& yaml);
// Of the job's newest run; nullopt: it has not run yet.
Result<std::optional<std::string>> newest_spec(const JobStore& store);
// That a checkpoint was made with. not_found: the store was written before specs were kept.
Result<std::string> spec_of(const JobStore& store, const pb::CheckpointManifest& manifest);

}  // namespace crabcast::storage
