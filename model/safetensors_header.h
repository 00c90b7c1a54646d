// The JSON part of a safetensors file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/safetensors.h"
#include "protocol/error.h"

namespace crabcast::model {

struct SafetensorsHeader {
  std::vector<SafetensorsFile::Entry> entries;  // by name
  std::map<std::string, std::string> metadata;
};

// Checks everything that `data_bytes` bytes of data can be checked against. corrupt.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view text, std::uint64_t data_bytes);

// The JSON of a file's header. invalid_argument: a name or metadata that is not UTF-8.
Result<std::string> print_safetensors_header(const SafetensorsHeader& header);

// "BF16"; nothing for a type that the format does not have.
std::optional<std::string> safetensors_type_name(at::ScalarType type);
// "[2, 3]"
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace crabcast::model
