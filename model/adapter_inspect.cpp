#include "model/adapter_inspect.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <set>

#include "model/guarded.h"
#include "model/safetensors_header.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

using nlohmann::ordered_json;

std::string said(const std::optional<double>& number) {
  return number ? exact_number(*number) : "not said";
}

std::string module_of(const std::string& name) {
  const auto part = name.rfind(".lora_");
  return name.substr(0, part == std::string::npos ? name.rfind('.') : part);
}

}  // namespace

std::string AdapterInspection::text() const {
  std::string out = "adapter " + file.path.string() + " (" + file.format + ")\n";
  out += "kind " + std::string(to_string(file.kind));
  if (has_factors(file.kind)) {
    out += ", rank " + std::to_string(file.rank);
    if (has_heads(file.kind)) out += ", " + std::to_string(file.heads) + " heads";
    out += ", scope " + std::string(to_string(file.scope)) + "\nalpha " + said(file.alpha) +
           ", dropout " + said(file.dropout);
  }
  out += "\nbase " + (file.base_hash.empty() ? "not said" : file.base_hash) + "\n";
  out += std::to_string(file.tensors.size()) + " tensors in " + std::to_string(modules) +
         " modules, " + std::to_string(parameters) + " parameters, " + format_bytes(bytes) + " (";
  std::vector<std::string> names;
  for (const auto& [type, count] : types) names.push_back(type);
  out += join_names(names) + ")\n";
  if (adds_nothing) out += "every B is zero: it adds nothing to the base yet\n";
  if (!finite) out += "problem: it holds numbers that are not finite\n";
  return out;
}

std::string AdapterInspection::json() const {
  const auto number = [](const std::optional<double>& value) {
    return value ? ordered_json(*value) : ordered_json();
  };
  ordered_json all = {
      {"path", file.path.string()}, {"format", file.format}, {"kind", to_string(file.kind)}};
  if (has_factors(file.kind)) {
    all["rank"] = file.rank;
    if (has_heads(file.kind)) all["heads"] = file.heads;
    all["scope"] = to_string(file.scope);
    all["alpha"] = number(file.alpha);
    all["dropout"] = number(file.dropout);
  }
  all["base_hash"] = file.base_hash.empty() ? ordered_json() : ordered_json(file.base_hash);
  all["tensors"] = file.tensors.size();
  all["modules"] = modules;
  all["parameters"] = parameters;
  all["bytes"] = bytes;
  all["types"] = types;
  all["adds_nothing"] = adds_nothing;
  all["finite"] = finite;
  return all.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

bool adds_nothing(const AdapterFile& file) {
  if (!has_factors(file.kind)) return false;
  for (const auto& [name, tensor] : file.tensors)
    if (name.find(".lora_B") != std::string::npos && at::any(tensor).item<bool>()) return false;
  return true;
}

Result<AdapterInspection> inspect_adapter(const std::filesystem::path& path) {
  return guarded("looking at " + path.string(), "Look on a machine with more memory",
                 [&]() -> Result<AdapterInspection> {
                   auto file = open_adapter(path);
                   if (!file) return fail(file.error());
                   AdapterInspection found{std::move(*file)};
                   std::set<std::string> modules;
                   for (const auto& [name, tensor] : found.file.tensors) {
                     modules.insert(module_of(name));
                     found.parameters += static_cast<std::uint64_t>(tensor.numel());
                     found.bytes += tensor.nbytes();
                     ++found.types[*safetensors_type_name(tensor.scalar_type())];
                     found.finite = found.finite && at::isfinite(tensor).all().item<bool>();
                   }
                   found.modules = modules.size();
                   found.adds_nothing = model::adds_nothing(found.file);
                   return found;
                 });
}

}  // namespace crabcast::model
