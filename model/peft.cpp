#include "model/peft.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "model/disk_file.h"
#include "model/strict_json.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMostConfigBytes = 1 << 20;
constexpr std::uint64_t kMostRank = 4096;

// Settings that say where an adapter came from, or how it was trained, or whose effect is seen in
// the names of its tensors.
const std::set<std::string>& harmless() {
  static const std::set<std::string> all = {"auto_mapping",
                                            "base_model_name_or_path",
                                            "exclude_modules",
                                            "inference_mode",
                                            "layers_pattern",
                                            "layers_to_transform",
                                            "lora_alpha",
                                            "lora_dropout",
                                            "megatron_core",
                                            "peft_type",
                                            "peft_version",
                                            "qalora_group_size",
                                            "r",
                                            "revision",
                                            "runtime_config",
                                            "target_modules",
                                            "task_type"};
  return all;
}

// Other starts (pissa, olora, corda, ..) change the weights of the base, too.
bool is_plain_start(const std::string& name, const json& value) {
  return name == "init_lora_weights" && (value == true || value == "gaussian");
}

bool is_off(const json& value) {
  return value.is_null() || value == false || value == "none" ||
         ((value.is_object() || value.is_array()) && value.empty());
}

Result<PeftConfig> parse(const std::string& text) {
  auto config = parse_strict_json(text);
  if (!config) return fail(config.error());
  if (!config->is_object()) return fail(Errc::corrupt, "it is no JSON object");
  const auto type = config->find("peft_type");
  if (type == config->end() || *type != "LORA")
    return fail(Errc::unsupported, "peft_type is not LORA");
  for (const auto& [name, value] : config->items())
    if (!harmless().contains(name) && !is_plain_start(name, value) && !is_off(value))
      return fail(Errc::unsupported, excerpt(name) + " is " + excerpt(value.dump()) +
                                         ", which makes it more than a plain LoRA");
  PeftConfig found;
  const json& rank = (*config)["r"];
  const json& alpha = (*config)["lora_alpha"];
  const json& dropout = (*config)["lora_dropout"];
  if (!rank.is_number_unsigned() || rank < 1 || rank > kMostRank)
    return fail(Errc::corrupt, "r is " + excerpt(rank.dump()) + "; it must be from 1 to " +
                                   std::to_string(kMostRank));
  if (!alpha.is_number() || !std::isfinite(alpha.get<double>()))
    return fail(Errc::corrupt, "lora_alpha is " + excerpt(alpha.dump()));
  if (!dropout.is_null() && !dropout.is_number())
    return fail(Errc::corrupt, "lora_dropout is " + excerpt(dropout.dump()));
  found.rank = rank.get<std::uint32_t>();
  found.alpha = alpha.get<double>();
  found.dropout = dropout.is_null() ? 0 : dropout.get<double>();
  return found;
}

}  // namespace

Result<PeftConfig> read_peft_config(const std::filesystem::path& folder) {
  auto text = read_whole_file(folder / kPeftConfig, kMostConfigBytes);
  if (!text) return fail(text.error());
  auto config = parse(*text);
  if (!config) return fail(config.error().within(kPeftConfig));
  return config;
}

std::string peft_config_text(const PeftConfig& config, AdapterScope scope,
                             const std::string& base) {
  // peft takes an expression for the whole name of a module, in the names that the model has in
  // memory: transformers 4 has model.layers, transformers 5 model.language_model.layers.
  constexpr auto kProjections = R"(\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj))";
  const std::string modules =
      scope == AdapterScope::all
          ? std::string(R"(.*)") + kProjections
          : std::string(R"((thinker\.)?model\.(language_model\.)?layers\..*)") + kProjections;
  const nlohmann::ordered_json all = {{"peft_type", "LORA"},
                                      {"base_model_name_or_path", base},
                                      {"task_type", nullptr},
                                      {"inference_mode", true},
                                      {"r", config.rank},
                                      {"lora_alpha", config.alpha},
                                      {"lora_dropout", config.dropout},
                                      {"target_modules", modules},
                                      {"bias", "none"},
                                      {"fan_in_fan_out", false},
                                      {"use_rslora", false},
                                      {"use_dora", false},
                                      {"modules_to_save", nullptr}};
  return all.dump(2) + "\n";
}

}  // namespace crabcast::model
