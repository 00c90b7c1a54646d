#include "model/adapter_export.h"

#include <ATen/core/Tensor.h>

#include <utility>

#include "model/base_names.h"
#include "model/disk_file.h"
#include "model/peft.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

constexpr auto kAll = "adapter.safetensors";

// ...lora_B2.weight -> ...lora_B.weight, and the module as it is called in memory.
std::string peft_name(const std::string& name) {
  constexpr std::string_view kPrefix = "base_model.model.", kFactorB = ".lora_B";
  std::string found(kPrefix);
  found += in_memory_name("thinker." + name.substr(kPrefix.size()));
  if (const auto at = found.rfind(kFactorB); at != std::string::npos)
    found = found.substr(0, at + kFactorB.size()) + ".weight";
  return found;
}

Status write_peft(const AdapterSource& source, std::vector<TensorSource> tensors,
                  const fs::path& folder) {
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) return fail(error_from_errno(error.value(), "making the folder " + folder.string()));
  for (TensorSource& tensor : tensors) tensor.name = peft_name(tensor.name);
  CRABCAST_TRY(stream_safetensors(folder / kPeftTensors, tensors, {{"format", "pt"}}));
  const AdapterSpec& spec = source.spec;
  return write_whole_file(
      folder / kPeftConfig,
      peft_config_text({spec.rank, spec.alpha, spec.dropout}, spec.scope, source.base));
}

// All in one file first: a source gives each tensor once, and A belongs to every head.
Status write_heads(const AdapterSource& source, const fs::path& folder) {
  CRABCAST_TRY(export_crab(source, folder / kAll));
  auto file = open_adapter(folder / kAll);
  if (!file) return fail(file.error());
  for (std::uint32_t head = 0; head < source.spec.heads; ++head) {
    std::vector<TensorSource> tensors;
    for (TensorSource& tensor : sources_of(*file))
      if (tensor.name.ends_with(".lora_A.weight") ||
          tensor.name.ends_with(".lora_B" + std::to_string(head) + ".weight"))
        tensors.push_back(std::move(tensor));
    CRABCAST_TRY(write_peft(source, std::move(tensors), folder / ("head_" + std::to_string(head))));
  }
  return {};
}

}  // namespace

std::vector<TensorSource> sources_of(const AdapterFile& file) {
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : file.tensors)
    sources.push_back({name, tensor.scalar_type(), tensor.sizes().vec(),
                       [tensor = tensor]() -> Result<at::Tensor> { return tensor; }});
  return sources;
}

Status export_crab(const AdapterSource& source, const fs::path& file) {
  return stream_safetensors(file, source.tensors, adapter_metadata(source.spec, source.base_hash));
}

Status export_peft(const AdapterSource& source, const fs::path& folder) {
  if (!has_factors(source.spec.kind))
    return fail(Errc::unsupported,
                "peft has no form for kind full: all weights are trained; use --format crab");
  std::error_code error;
  if (fs::exists(folder, error))
    return fail(Errc::already_exists, folder.string() + " is there already; name another folder");
  fs::path partial = folder;
  partial += ".partial";
  fs::remove_all(partial, error);
  Status status;
  if (source.spec.kind == AdapterKind::lora) {
    status = write_peft(source, source.tensors, partial);
  } else {
    fs::create_directory(partial, error);
    status = error ? fail(error_from_errno(error.value(), "making the folder " + partial.string()))
                   : write_heads(source, partial);
  }
  if (status) {
    fs::rename(partial, folder, error);
    if (!error) return sync_folder(folder.parent_path());
    status = fail(error_from_errno(error.value(), "naming " + folder.string()));
  }
  fs::remove_all(partial, error);
  return status;
}

}  // namespace crabcast::model
