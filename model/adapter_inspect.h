// What an adapter's file or folder holds: `crabcast adapter inspect`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "model/adapter_file.h"
#include "protocol/error.h"

namespace crabcast::model {

struct AdapterInspection {
  AdapterFile file;
  std::uint64_t modules = 0, parameters = 0, bytes = 0;
  std::map<std::string, std::uint64_t> types = {};  // BF16 -> tensors
  bool adds_nothing = false;                        // every B is zero
  bool finite = true;                               // no NaN and no infinity

  [[nodiscard]] bool clean() const { return finite; }
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string json() const;
};

// Reads all of it. Errors as open_adapter's.
Result<AdapterInspection> inspect_adapter(const std::filesystem::path& path);

// Nothing is added to what the base computes. Never so for kind full.
bool adds_nothing(const AdapterFile& file);

}  // namespace crabcast::model
