// The base that Crabcast ships, nano: its weights lie in the program, so that an installed binary
// needs no other file. They were made by `crabcast base make` (model/shipped/nano/README.md).
#pragma once

#include <memory>

#include "model/safetensors.h"
#include "protocol/error.h"

namespace crabcast::model {

// model.safetensors of nano. corrupt, resource_exhausted.
Result<std::shared_ptr<const SafetensorsFile>> open_shipped_weights();

}  // namespace crabcast::model
