// The file in which an agent tells a role process what it is (RoleLaunch as Protobuf text).
#pragma once

#include <filesystem>

#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::actors {

Result<pb::RoleLaunch> read_launch(const std::filesystem::path& file);
// Makes the folders it needs.
Status write_launch(const std::filesystem::path& file, const pb::RoleLaunch& launch);

}  // namespace crabcast::actors
