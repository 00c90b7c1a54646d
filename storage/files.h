// Folders that survive power loss.
#pragma once

#include <filesystem>

#include "protocol/error.h"

namespace crabcast::storage {

// Makes the folder and those above it. Each new name is durable when it returns.
Status make_folder(const std::filesystem::path& folder);
// Makes the names in the folder durable.
Status sync_folder(const std::filesystem::path& folder);

}  // namespace crabcast::storage
