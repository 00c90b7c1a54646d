// Folders of the Python package peft (huggingface.co/docs/peft), as far as a plain LoRA needs them:
// adapter_config.json and adapter_model.safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

inline constexpr auto kPeftConfig = "adapter_config.json";
inline constexpr auto kPeftTensors = "adapter_model.safetensors";

struct PeftConfig {
  std::uint32_t rank = 0;
  double alpha = 0, dropout = 0;
};

// corrupt or unsupported names the setting: whatever would make another function of it than
// W x + b + alpha / rank * B A x.
Result<PeftConfig> read_peft_config(const std::filesystem::path& folder);

// The text of adapter_config.json. What it hits is what `scope` hits.
std::string peft_config_text(const PeftConfig& config, AdapterScope scope, const std::string& base);

}  // namespace crabcast::model
