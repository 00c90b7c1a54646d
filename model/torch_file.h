// A file of torch.save that holds a state dict, such as Crab+'s finetune_weights.bin:
//
//     NAME/data.pkl     the dict, a pickle (pickle.h)
//     NAME/byteorder    "little", where it is there
//     NAME/data/KEY     the bytes of a storage
//     (and records that say nothing about tensors: version, .data/serialization_id, ..)
//
// in a zip archive that compresses nothing. Nothing in it is executed.
#pragma once

#include <filesystem>
#include <vector>

#include "model/named_tensor.h"
#include "protocol/error.h"

namespace crabcast::model {

bool is_torch_file(const std::filesystem::path& file);  // begins as a zip archive does

// Its tensors, in the order of the dict: views of the mapped file, read only, that keep the map
// alive; one whose elements do not lie in order or are not aligned is copied. Every record's
// checksum is verified, so all is read once. corrupt: the reason, with the record or the byte of
// the pickle.
Result<std::vector<NamedTensor>> open_torch_file(const std::filesystem::path& file);

}  // namespace crabcast::model
