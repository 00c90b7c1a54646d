// Features of frozen towers on the node's disk (data.cache.features).
#pragma once

#include <filesystem>
#include <memory>

#include "model/feature_store.h"
#include "protocol/error.h"

namespace crabcast::actors {

// A data::TensorCache as the model's store. Errors as those of TensorCache::open; later ones are
// logged once, and cost only time.
Result<std::shared_ptr<model::FeatureStore>> open_feature_cache(const std::filesystem::path& folder,
                                                                std::uint64_t bytes);

}  // namespace crabcast::actors
