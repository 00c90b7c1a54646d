// Tensors that somebody gives against those that are wanted.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/named_tensor.h"

namespace crabcast::model {

struct WantedTensor {
  std::string_view name;
  std::vector<std::int64_t> shape;
  std::optional<at::ScalarType> type;  // nothing: float32, float16 or bfloat16
};

// Every tensor that is missing, surplus, given twice, misshapen or of another type, by name; many
// of one sort are counted. Empty: each wanted tensor is there once, and no other.
std::string mismatch(const std::vector<WantedTensor>& wanted,
                     const std::vector<NamedTensor>& given);

}  // namespace crabcast::model
