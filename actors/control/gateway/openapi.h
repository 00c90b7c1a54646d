// The table of routes as an OpenAPI 3 description. docs/openapi.json is its copy; a test compares.
#pragma once

#include <string>

namespace crabcast::gateway {

std::string openapi();

}  // namespace crabcast::gateway
