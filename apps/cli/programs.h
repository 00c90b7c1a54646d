// Where the two programs live: found from the running program's own path.
#pragma once

#include <filesystem>

#include "protocol/error.h"

namespace crabcast::apps {

Result<std::filesystem::path> own_program();
Result<std::filesystem::path> compute_program();

}  // namespace crabcast::apps
