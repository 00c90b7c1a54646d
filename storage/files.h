// Folders and small files that survive power loss.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "protocol/error.h"

namespace crabcast::storage {

// Makes the folder and those above it. Each new name is durable when it returns.
Status make_folder(const std::filesystem::path& folder);
// Makes the names in the folder durable.
Status sync_folder(const std::filesystem::path& folder);

// The file holds all of `text`, or what it held before, at every moment; durable when it returns.
// `mode` as of chmod.
Status replace_file(const std::filesystem::path& path, const std::string& text, mode_t mode = 0644);

}  // namespace crabcast::storage
