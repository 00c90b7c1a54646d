// Whether a write returns before or after its bytes are on the disk. No default: each call says.
#pragma once

namespace crabcast::storage {

enum class Sync {
  no,   // survives a crash of the process, not of the machine
  yes,  // survives power loss
};

}  // namespace crabcast::storage
