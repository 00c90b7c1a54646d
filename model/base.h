// A frozen base: its shapes, its weights, and the hash that stands for it in checkpoints.
//
// Memory: a tensor that already has the wanted type, on the host, may be a view of its mapped file,
// read only and shared by all processes of a node that open it; every other one is read and
// converted in pieces. So opening takes the weights' own size and 2 MiB.
//
// Nobody may write to a base's tensors. The base is frozen, a view's pages are read only, and a
// write would end the process; whoever needs other values clones.
//
// The hash is taken while the bytes are read, once, in every process that opens a base, and stored
// nowhere. A note of it beside the weights could not be written where a folder is read only, and
// neither such a note nor the file's time and size would notice a changed byte; and all that it
// could save is one pass over bytes that have to come into memory anyway. So a checkpoint's hash
// always speaks of what was really read.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "model/config.h"
#include "model/weights.h"
#include "protocol/error.h"

namespace crabcast::model {

struct Base {
  ThinkerConfig config;
  // With tied embeddings the head's name leads to the embedding.
  WeightMap weights;
  std::string hash;  // 32 hex digits: BaseHasher over the tensors as published
};

// `base` is a shipped base ("nano") or a folder: config.json, and model.safetensors or
// model.safetensors.index.json with its shards (base_files.h). Any other name is resolved before,
// by locate_base. Errors as those of find_base_files and locate_base; resource_exhausted: memory.
Result<Base> open_base(const std::string& base, at::Device device, at::ScalarType type);

}  // namespace crabcast::model
