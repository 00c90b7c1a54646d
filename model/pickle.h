// The pickle of a state dict, as torch.save writes it: a dict of text to tensors.
//
// A pickle is a program for a stack machine, and Python's machine calls any function of any module
// that it names. This one calls nothing. It knows the instructions that a state dict needs, and of
// names collections.OrderedDict, torch's storages of float32, float16 and bfloat16, and the three
// functions of torch._utils that say how a tensor lies in its storage. Everything else is refused,
// with the reason and the byte at which it stands. Objects, depth and length are bounded by the
// length of the text, which itself is bounded.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast::model {

// A tensor as the pickle describes it. Nothing here is checked against its storage's bytes.
struct PickledTensor {
  std::string name;
  std::string storage;  // its key: the archive's record data/KEY
  at::ScalarType type = at::kFloat;
  std::int64_t storage_elements = 0;
  std::int64_t offset = 0;  // of its first element, in elements, as are the strides
  std::vector<std::int64_t> shape, strides;
};

// In the order of the dict. corrupt: whatever is not a plain state dict; names are printable ASCII.
Result<std::vector<PickledTensor>> read_state_dict(std::string_view pickle);

}  // namespace crabcast::model
