// config.json of a base in Hugging Face layout.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/config.h"
#include "protocol/error.h"

namespace crabcast::model {

struct BaseConfig {
  ThinkerConfig config;
  std::string model_type;  // qwen2_5_omni, or qwen2_5_omni_thinker when it is the thinker's alone
  // Each names a field, the value found and what is supported. Not empty: `config` is not to be
  // used.
  std::vector<std::string> problems;
};

// Reads FOLDER/config.json: that of the whole model, with a thinker_config, or the thinker's alone.
// Every field that changes a number is read, or checked to have the value that this code
// implements; fields that are missing or null have the defaults of transformers (the tables in
// base_config.cpp), and unknown ones are passed over. not_found, corrupt.
Result<BaseConfig> read_base_config(const std::filesystem::path& folder);

// The same, where problems are an error too (unsupported).
Result<ThinkerConfig> read_thinker_config(const std::filesystem::path& folder);

// "3 problems: a; b; c", with a count in place of those beyond the first twenty.
std::string list_problems(const std::vector<std::string>& problems);

}  // namespace crabcast::model
