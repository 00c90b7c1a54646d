// The bytes of one entry of a TensorCache. Private to data/.
//
//     magic "CCT1" | u32 tensors | u64 stamp | for each tensor: u8 type, u8 dimensions, u64 sizes |
//     padding | for each tensor: its bytes, from a multiple of 64 on | u64 XXH3 of all before
//
// Numbers are little-endian. Tensors are contiguous and on the host.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast::data {

struct CacheEntry {
  std::uint64_t stamp = 0;  // when it was written, in the cache's own count
  std::vector<at::Tensor> tensors;
};

std::string encode_entry(const std::vector<at::Tensor>& tensors, std::uint64_t stamp);

// The tensors are views of `bytes`, which `keep` keeps alive. corrupt: the checksum does not fit,
// or the bytes are no entry.
Result<CacheEntry> decode_entry(std::string_view bytes, std::shared_ptr<const void> keep);

}  // namespace crabcast::data
