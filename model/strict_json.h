// JSON of files that strangers wrote: config.json, shard indexes, safetensors headers.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "protocol/error.h"

namespace crabcast::model {

// corrupt: no JSON, text that is not UTF-8, a name twice in one object, or more than 32 levels.
Result<nlohmann::json> parse_strict_json(std::string_view text);

}  // namespace crabcast::model
