// What each kind of adapter trains: names and shapes, in the order of one flat buffer.
//
// Factors lie module by module, as adapter_modules lists them, under the names that are published:
//
//     ilora, crab_v1   MODULE.lora_A.weight [r, in], .lora_B0.weight .. .lora_B{N-1}.weight
//                      [out, r], .lora_route.weight [N, in]
//     lora             MODULE.lora_A.weight, MODULE.lora_B.weight, as the Python package peft has
//     it full             the base's tensors by their own names, as weight_shapes lists them
//
// Nothing here allocates a tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

// One tensor that is trained.
struct Parameter {
  std::string name;  // base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
  std::vector<std::int64_t> shape;
};

std::vector<Parameter> trained_parameters(const ThinkerConfig& config, const AdapterSpec& spec);

// Element range of each parameter in the flat buffer: parameters + 1 entries.
std::vector<std::int64_t> parameter_offsets(const std::vector<Parameter>& parameters);

}  // namespace crabcast::model
