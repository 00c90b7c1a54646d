// How verbs find a checkpoint, and open a store to change it.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/verbs.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"
#include "storage/job_store.h"

namespace crabcast::apps {

// The one that is asked for, else the newest that verifies. not_found names those that are there.
Result<CheckpointId> find_checkpoint(const storage::JobStore& store,
                                     std::optional<std::uint64_t> id);
// For a look at one: in the store of `job`, or in the folder `store` (job_source.h).
struct OpenedCheckpoint {
  std::unique_ptr<storage::JobStore> store;
  pb::CheckpointManifest manifest;
};
Result<OpenedCheckpoint> open_checkpoint(const Common& common, const std::string& job,
                                         const std::filesystem::path& store,
                                         std::optional<std::uint64_t> id);
// unavailable while the job's coordinator has the store open, with what to do.
Result<std::unique_ptr<storage::JobStore>> open_to_change(const std::filesystem::path& folder);
// The spec of the job's newest run. not_found.
Result<JobSpec> spec_of_job(const storage::JobStore& store);

nlohmann::json manifest_json(const pb::CheckpointManifest& manifest);

}  // namespace crabcast::apps
