// Adapters written for others, from a file or from a checkpoint as it comes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/adapter_file.h"
#include "model/safetensors.h"
#include "protocol/error.h"

namespace crabcast::model {

// What is written: published names, each made once when its turn comes.
struct AdapterSource {
  AdapterSpec spec;
  std::string base;       // what the spec calls it
  std::string base_hash;  // empty: not known
  std::vector<TensorSource> tensors;
};

// The tensors of a file, again and again.
std::vector<TensorSource> sources_of(const AdapterFile& file);

// One file of ours (adapter_file.h) in Crab+'s names, bit by bit what the source holds.
Status export_crab(const AdapterSource& source, const std::filesystem::path& file);

// For the package peft, with the names that transformers 5 has in memory.
//
//     lora             FOLDER/adapter_config.json and adapter_model.safetensors
//     ilora, crab_v1   FOLDER/head_0 .. head_{N-1}, each a plain LoRA of A and that head's B (what
//     the
//                      router mixes), and FOLDER/adapter.safetensors with all of it
//
// The folder is made, and must not be there. unsupported: kind full, which peft has no form for.
Status export_peft(const AdapterSource& source, const std::filesystem::path& folder);

}  // namespace crabcast::model
