#include "model/adapter_layout.h"

#include <functional>
#include <numeric>

namespace crabcast::model {
namespace {

void list_factors(const AdapterModule& module, const AdapterSpec& spec,
                  std::vector<Parameter>& parameters) {
  const std::int64_t rank = spec.rank, heads = spec.heads;
  const auto add = [&](const std::string& part, std::int64_t rows, std::int64_t columns) {
    parameters.push_back({module.published + "." + part + ".weight", {rows, columns}});
  };
  add("lora_A", rank, module.in);
  if (!has_heads(spec.kind)) {
    add("lora_B", module.out, rank);
    return;
  }
  for (std::int64_t i = 0; i < heads; ++i) add("lora_B" + std::to_string(i), module.out, rank);
  add("lora_route", heads, module.in);
}

}  // namespace

std::vector<Parameter> trained_parameters(const ThinkerConfig& config, const AdapterSpec& spec) {
  std::vector<Parameter> parameters;
  if (has_factors(spec.kind))
    for (const AdapterModule& module : adapter_modules(config, spec.scope))
      list_factors(module, spec, parameters);
  else
    for (WeightShape& weight : weight_shapes(config))
      parameters.push_back({std::move(weight.name), std::move(weight.shape)});
  return parameters;
}

std::vector<std::int64_t> parameter_offsets(const std::vector<Parameter>& parameters) {
  std::vector<std::int64_t> offsets = {0};
  for (const auto& [name, shape] : parameters)
    offsets.push_back(offsets.back() + std::accumulate(shape.begin(), shape.end(), std::int64_t{1},
                                                       std::multiplies<>()));
  return offsets;
}

}  // namespace crabcast::model
