#include "model/adapter_file.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "model/base_names.h"
#include "model/peft.h"
#include "model/safetensors.h"
#include "model/safetensors_header.h"
#include "model/tensor_match.h"
#include "model/torch_file.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "base_model.model.", kThinker = "thinker.",
                           kWeight = ".weight";
constexpr auto kVersion = "crabcast.adapter", kKind = "kind", kRank = "rank", kAlpha = "alpha",
               kHeads = "heads", kDropout = "dropout", kScope = "scope", kBase = "base";

tl::unexpected<Error> corrupt(std::string why) {
  return fail(Errc::corrupt, std::move(why));
}

// base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight, whatever transformers calls it.
std::string published_adapter_name(const std::string& name) {
  if (!name.starts_with(kPrefix)) return name;
  const auto known = published_name(std::string_view(name).substr(kPrefix.size()));
  return known ? std::string(kPrefix) + known->substr(kThinker.size()) : name;
}

// ---- What names and shapes say

struct Part {
  std::string module, part;  // q_proj, lora_B0
};

std::optional<Part> split(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kWeight)) return std::nullopt;
  name.remove_suffix(kWeight.size());
  const auto dot = name.rfind('.');
  if (dot < kPrefix.size()) return std::nullopt;
  return Part{std::string(name.substr(0, dot)), std::string(name.substr(dot + 1))};
}

Status describe_factors(AdapterFile& file) {
  std::set<std::string> parts;
  file.scope = AdapterScope::language_model;
  for (const auto& [name, tensor] : file.tensors) {
    const auto found = split(name);
    if (!found || !found->part.starts_with("lora_") || tensor.dim() != 2)
      return corrupt("tensor " + excerpt(name, 200) + " is of no adapter");
    parts.insert(found->part);
    if (found->part == "lora_A") file.rank = static_cast<std::uint32_t>(tensor.size(0));
    if (!found->module.starts_with("base_model.model.model.layers."))
      file.scope = AdapterScope::all;
  }
  if (!parts.contains("lora_A")) return corrupt("no tensor of it is a lora_A");
  if (parts == std::set<std::string>{"lora_A", "lora_B"}) {
    file.kind = AdapterKind::lora;
    return {};
  }
  file.kind = AdapterKind::ilora;
  file.heads = static_cast<std::uint32_t>(parts.size() - 2);
  std::set<std::string> expected = {"lora_A", "lora_route"};
  for (std::uint32_t i = 0; i < file.heads; ++i) expected.insert("lora_B" + std::to_string(i));
  if (parts == expected && file.heads > 0) return {};
  return corrupt("its modules have " +
                 join_names(std::vector<std::string>(parts.begin(), parts.end())) +
                 "; known are lora_A with lora_B, and lora_A with lora_B0, lora_B1 .. and "
                 "lora_route");
}

Status describe(AdapterFile& file) {
  if (file.tensors.empty()) return corrupt("it holds no tensor");
  for (NamedTensor& tensor : file.tensors) tensor.name = published_adapter_name(tensor.name);
  std::sort(file.tensors.begin(), file.tensors.end(),
            [](const NamedTensor& a, const NamedTensor& b) { return a.name < b.name; });
  const bool weights = std::all_of(file.tensors.begin(), file.tensors.end(),
                                   [](const auto& t) { return t.name.starts_with(kThinker); });
  if (!weights) return describe_factors(file);
  file.kind = AdapterKind::full;
  return {};
}

// ---- What a file of ours says beside that

template <class Value, class Parse>
Status read_text(const std::map<std::string, std::string>& metadata, const char* key,
                 const Parse& parse, Value& into) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  const auto value = parse(found->second);
  if (!value) return corrupt(std::string("its ") + key + " is \"" + excerpt(found->second) + "\"");
  into = *value;
  return {};
}

std::optional<AdapterKind> parse_kind(const std::string& text) {
  for (const auto kind :
       {AdapterKind::ilora, AdapterKind::lora, AdapterKind::crab_v1, AdapterKind::full})
    if (text == to_string(kind)) return kind;
  return std::nullopt;
}

Status read_metadata(const std::map<std::string, std::string>& metadata, AdapterFile& file) {
  const auto version = metadata.find(kVersion);
  if (version == metadata.end()) return {};
  if (version->second != "1")
    return corrupt("it was written by a later version of Crabcast (format " +
                   excerpt(version->second) + ")");
  AdapterKind said = file.kind;
  CRABCAST_TRY(read_text(metadata, kKind, parse_kind, said));
  file.says_kind = true;
  if (has_heads(said) && has_heads(file.kind)) file.kind = said;  // ilora or crab_v1
  if (said != file.kind)
    return corrupt("it says that it is " + std::string(to_string(said)) + ", its tensors are " +
                   std::string(to_string(file.kind)));
  CRABCAST_TRY(read_text(metadata, kAlpha, parse_number, file.alpha));
  CRABCAST_TRY(read_text(metadata, kDropout, parse_number, file.dropout));
  if (const auto base = metadata.find(kBase); base != metadata.end()) file.base_hash = base->second;
  return {};
}

// ---- Formats

Status read_safetensors(AdapterFile& file) {
  auto opened = SafetensorsFile::open(file.path);
  if (!opened) return fail(opened.error());
  file.format = "safetensors";
  for (const auto& entry : (*opened)->entries())
    file.tensors.push_back({entry.name, (*opened)->tensor(entry)});
  CRABCAST_TRY(describe(file));
  return read_metadata((*opened)->metadata(), file);
}

Status read_torch(AdapterFile& file) {
  auto tensors = open_torch_file(file.path);
  if (!tensors) return fail(tensors.error());
  file.format = "torch.save";
  file.tensors = std::move(*tensors);
  return describe(file);
}

Status read_peft(AdapterFile& file) {
  auto config = read_peft_config(file.path);
  if (!config) return fail(config.error());
  file.path /= kPeftTensors;
  CRABCAST_TRY(read_safetensors(file));
  file.format = "peft";
  if (file.kind != AdapterKind::lora || file.rank != config->rank)
    return corrupt(std::string(kPeftConfig) + " describes a lora of rank " +
                   std::to_string(config->rank) + "; its tensors are " +
                   std::string(to_string(file.kind)) + " of rank " + std::to_string(file.rank));
  file.alpha = config->alpha;
  file.dropout = config->dropout;
  return {};
}

Status read(AdapterFile& file) {
  std::error_code error;
  if (!fs::is_directory(file.path, error))
    return is_torch_file(file.path) ? read_torch(file) : read_safetensors(file);
  if (fs::exists(file.path / kPeftConfig, error)) return read_peft(file);
  for (const char* name : {"adapter.safetensors", "finetune_weights.bin"})
    if (fs::exists(file.path / name, error)) {
      file.path /= name;
      return read(file);
    }
  return fail(Errc::not_found, "the folder holds none of " + std::string(kPeftConfig) +
                                   ", adapter.safetensors and finetune_weights.bin");
}

}  // namespace

Result<AdapterFile> open_adapter(const fs::path& path) {
  AdapterFile file;
  file.path = path;
  if (const Status status = read(file); !status)
    return fail(status.error().message.starts_with(path.string())
                    ? status.error()
                    : status.error().within(path.string()));
  return file;
}

Status check_adapter(const AdapterFile& file, const ThinkerConfig& config, const AdapterSpec& spec,
                     const std::string& base_hash) {
  std::string problems;
  const auto differs = [&](const std::string& what, const std::string& theirs,
                           const std::string& ours) {
    if (theirs != ours)
      problems += (problems.empty() ? "" : "; ") + what + " is " + theirs + ", not " + ours;
  };
  if (file.says_kind || !has_heads(file.kind) || !has_heads(spec.kind))
    differs("its kind", std::string(to_string(file.kind)), std::string(to_string(spec.kind)));
  if (has_factors(spec.kind) && has_factors(file.kind)) {
    differs("its rank", std::to_string(file.rank), std::to_string(spec.rank));
    differs("its scope", std::string(to_string(file.scope)), std::string(to_string(spec.scope)));
    if (file.alpha) differs("its alpha", exact_number(*file.alpha), exact_number(spec.alpha));
  }
  if (has_heads(spec.kind) && has_heads(file.kind))
    differs("its number of heads", std::to_string(file.heads), std::to_string(spec.heads));
  if (!file.base_hash.empty()) differs("the hash of its base", file.base_hash, base_hash);
  if (problems.empty()) {
    std::vector<WantedTensor> wanted;
    const std::vector<Parameter> parameters = trained_parameters(config, spec);
    for (const auto& [name, shape] : parameters) wanted.push_back({name, shape, std::nullopt});
    problems = mismatch(wanted, file.tensors);
  }
  if (problems.empty()) return {};
  return fail(Errc::invalid_argument, "the adapter " + file.path.string() +
                                          " does not fit this base and spec: " + problems);
}

std::map<std::string, std::string> adapter_metadata(const AdapterSpec& spec,
                                                    const std::string& base_hash) {
  std::map<std::string, std::string> metadata = {
      {kVersion, "1"}, {kKind, std::string(to_string(spec.kind))}, {kBase, base_hash}};
  if (!has_factors(spec.kind)) return metadata;
  metadata[kRank] = std::to_string(spec.rank);
  metadata[kAlpha] = exact_number(spec.alpha);
  metadata[kDropout] = exact_number(spec.dropout);
  metadata[kScope] = to_string(spec.scope);
  if (has_heads(spec.kind)) metadata[kHeads] = std::to_string(spec.heads);
  return metadata;
}

}  // namespace crabcast::model
