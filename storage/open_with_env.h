// The seam to the disk: the same stores over another rocksdb::Env, for tests that fail writes or
// cut the power. `env` outlives the store.
#pragma once

#include <filesystem>
#include <memory>

#include "storage/job_store.h"
#include "storage/registry.h"

namespace rocksdb {
class Env;
}

namespace crabcast::storage {

Result<std::unique_ptr<JobStore>> open_job_store(const std::filesystem::path& folder,
                                                 rocksdb::Env* env);
Result<std::unique_ptr<Registry>> open_registry(const std::filesystem::path& folder,
                                                rocksdb::Env* env);

}  // namespace crabcast::storage
