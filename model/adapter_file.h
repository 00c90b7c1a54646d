// Adapters in files, whoever wrote them. Read, each without a copy of the tensors:
//
//     FILE.safetensors          published names; our own say kind, rank, alpha and base beside them
//     finetune_weights.bin      Crab+: the same names in a file of torch.save (torch_file.h)
//     FOLDER/adapter_config.json, adapter_model.safetensors     a plain LoRA of the package peft
//     FOLDER/adapter.safetensors, or FOLDER/finetune_weights.bin
//
// Names may be as any version of transformers has them in memory; here they are as published.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/adapter_layout.h"
#include "model/named_tensor.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

struct AdapterFile {
  std::filesystem::path path;
  std::string format;  // safetensors, torch.save or peft
  // Of the tensors' names and shapes. Names cannot tell crab_v1 from ilora: where the file does not
  // say its kind, either may be meant. Alpha and dropout are set only where the file says them.
  AdapterKind kind = AdapterKind::ilora;
  bool says_kind = false;
  std::uint32_t rank = 0, heads = 0;  // 0: the kind has none
  AdapterScope scope = AdapterScope::all;
  std::optional<double> alpha, dropout;
  std::string base_hash;             // empty: the file does not say
  std::vector<NamedTensor> tensors;  // by name; read only
};

// not_found; corrupt: the reason, as the readers of the formats say it, or names that are of no
// adapter, or factors that do not fit together.
Result<AdapterFile> open_adapter(const std::filesystem::path& path);

// Everything but the tensors' values: kind, rank, alpha, heads, scope, the base's hash, and each
// name and shape. What the file does not say is not compared. invalid_argument names all that
// differs.
Status check_adapter(const AdapterFile& file, const ThinkerConfig& config, const AdapterSpec& spec,
                     const std::string& base_hash);

// What a file of ours says beside its tensors, and the spec that it is read back as.
std::map<std::string, std::string> adapter_metadata(const AdapterSpec& spec,
                                                    const std::string& base_hash);

}  // namespace crabcast::model
