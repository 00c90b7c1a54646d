// Reads what tests/parity/thinker_golden.py wrote: a base, an adapter and batches with results.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/adapter.h"
#include "model/base.h"
#include "model/input.h"
#include "model/packing.h"
#include "model/safetensors.h"
#include "model/thinker.h"
#include "protocol/job_spec.h"

namespace crabcast::model::test {

// A file's tensors by name, and the texts beside them.
struct TensorFile {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> metadata;

  [[nodiscard]] bool has(const std::string& name) const { return tensors.contains(name); }
  [[nodiscard]] const at::Tensor& at(const std::string& name) const { return tensors.at(name); }
  [[nodiscard]] double number(const std::string& name) const {
    return std::stod(metadata.at(name));
  }
};

inline TensorFile read_tensors(const std::filesystem::path& path) {
  const auto file = SafetensorsFile::open(path);
  if (!file) throw std::runtime_error(file.error().message);
  TensorFile out{{}, (*file)->metadata()};
  for (const SafetensorsFile::Entry& entry : (*file)->entries())
    out.tensors[entry.name] = (*file)->tensor(entry).clone();
  return out;
}

// Folders below tests/parity/golden, or below $CRABCAST_PARITY_GOLDEN.
inline std::vector<std::string> golden_folders() {
  const char* given = std::getenv("CRABCAST_PARITY_GOLDEN");
  const char* source = std::getenv("CRABCAST_SOURCE");
  const std::filesystem::path root =
      given != nullptr
          ? given
          : std::filesystem::path(source != nullptr ? source : ".") / "tests/parity/golden";
  std::vector<std::string> folders;
  if (std::filesystem::exists(root))
    for (const auto& entry : std::filesystem::directory_iterator(root))
      folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

struct Golden {
  explicit Golden(const std::filesystem::path& folder)
      : base(open_base(folder.string(), at::kCPU, at::kFloat)),
        adapter(read_tensors(folder / "adapter.safetensors")) {
    if (!base) throw std::runtime_error(base.error().message);
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().stem().string();
      if (entry.path().extension() == ".safetensors" && !name.starts_with("adapter") &&
          name != "media" && !name.starts_with("model"))
        batches[name] = read_tensors(entry.path());
    }
  }

  Result<Base> base;
  TensorFile adapter;
  std::map<std::string, TensorFile> batches;
};

inline ModelInput model_input(const TensorFile& batch) {
  return {batch.at("input_ids"),      batch.at("attention_mask").to(at::kBool),
          batch.at("labels"),         batch.at("pixel_values"),
          batch.at("grid_thw"),       batch.at("seconds_per_grid"),
          batch.at("audio_features"), batch.at("audio_lengths")};
}

// The thinker of a golden with its adapter, as a session puts it together.
struct AdaptedThinker {
  AdaptedThinker(const Golden& golden, AdapterScope scope, AdapterKind kind = AdapterKind::ilora)
      : spec{.kind = kind,
             .rank = static_cast<std::uint32_t>(golden.adapter.number("rank")),
             .alpha = golden.adapter.number("alpha"),
             .heads = static_cast<std::uint32_t>(golden.adapter.number("heads")),
             .dropout = 0,
             .scope = scope},
        adapters(*golden.base, spec, 1, at::kCPU),
        thinker(make_thinker(golden.base->config, adapters.weights(*golden.base), &adapters)) {
    if (!has_factors(kind)) return;  // starts as the base
    const auto& parameters = adapters.parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      // LoRA starts with the first head.
      const std::string name =
          std::regex_replace(parameters[i].name, std::regex("lora_B\\.weight$"), "lora_B0.weight");
      part(adapters.values(), i).copy_(golden.adapter.at("initial/" + name));
    }
  }

  // The elements of parameter tensor `i` in a buffer like adapters.values().
  [[nodiscard]] at::Tensor part(const at::Tensor& flat, std::size_t i) const {
    const auto& offsets = adapters.offsets();
    return flat.narrow(0, offsets[i], offsets[i + 1] - offsets[i])
        .view(adapters.parameters()[i].shape);
  }

  AdapterSpec spec;
  AdapterSet adapters;
  Thinker thinker;
};

}  // namespace crabcast::model::test
