// Two checkpoints side by side, tensor by tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "storage/job_store.h"

namespace crabcast::storage {

struct TensorDifference {
  enum class Kind { equal, changed, reshaped, removed, added };
  std::string name;
  Kind kind = Kind::equal;
  // changed: max |b - a| over the elements, and |b - a| / |a| in the L2 norm; infinite from zero.
  double max_change = 0;
  double relative_l2 = 0;
  std::string before, after;  // reshaped: type and shape
};

struct CheckpointDifference {
  std::vector<TensorDifference> tensors;  // in the order of their names
  std::uint64_t chunks = 0;               // of the second one
  std::uint64_t equal_chunks = 0;         // of these, that the first one has, too
};

// "FLOAT32 [16, 64]"
std::string layout_text(const pb::TensorEntry& tensor);

// Reads only what the chunks' hashes do not show to be equal; a chunk of each at a time in memory.
// corrupt when one cannot be read.
Result<CheckpointDifference> difference_of(const CheckpointReader& a, const CheckpointReader& b);

}  // namespace crabcast::storage
